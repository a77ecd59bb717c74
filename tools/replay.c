/* `neomm replay`: options, the machine, and the outcome.
 * SPDX-License-Identifier: MIT */
#include "replay.h"

#include "commands.h"
#include "config_file.h"
#include "units.h"

#include <neomm/readahead.h>

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: neomm replay [options] TRACE|-\n"
    "\n"
    "A process on the simulated machine performs every reference of a memory trace, as\n"
    "`valgrind --tool=lackey --trace-mem=yes` prints it, or of a string of pages (NMT2); contents\n"
    "are checked at every load. Traces may be compressed by zstd.\n"
    "\n"
    "  --config FILE          memory_manager.conf to run under\n"
    "  --ram SIZE             memory of the machine (256M)\n"
    "  --swap SIZE            size of its swap disk (1G)\n"
    "  --resident-limit SIZE  most memory the process may hold; 100p is 100 pages, and 20% that\n"
    "                         share of the trace's pages, with --fast or a string of pages\n"
    "  --policy NAME          page replacement: one of the library's, or lru (sees every\n"
    "                         reference), or with --fast opt (sees those to come, too)\n"
    "  --readahead N          pages read from swap together, at most, 0 to 16; with --fast as a\n"
    "                         second run beside one without (--fast: as configured, else 0)\n"
    "  --fast                 the policy alone, on frames and accessed bits: the same counts,\n"
    "                         no page tables, no contents\n"
    "  --format NAME          page tables: 4level or 5level (4level)\n"
    "  --seed N               of everything the machine chooses (1)\n"
    "  --inject NAME          lose-write, swap-pages or stale-read: damage contents once\n"
    "  --snapshot FILE        keep statistics there for memstat while it runs\n"
    "  --snapshot-start FILE  the statistics before the first reference\n"
    "  --json                 print one JSON object\n"
    "\n"
    "SIZE: bytes, or K M G T (x 1024), or p (pages). Exit status: 0 all contents right,\n"
    "1 content errors or a failed run, 2 usage.\n";

enum {
    OPTION_CONFIG = 256,
    OPTION_RAM,
    OPTION_SWAP,
    OPTION_LIMIT,
    OPTION_POLICY,
    OPTION_READAHEAD,
    OPTION_FAST,
    OPTION_FORMAT,
    OPTION_SEED,
    OPTION_INJECT,
    OPTION_SNAPSHOT,
    OPTION_SNAPSHOT_START,
    OPTION_JSON,
    OPTION_HELP
};

static const struct option long_options[] = {
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"ram", required_argument, NULL, OPTION_RAM},
    {"swap", required_argument, NULL, OPTION_SWAP},
    {"resident-limit", required_argument, NULL, OPTION_LIMIT},
    {"policy", required_argument, NULL, OPTION_POLICY},
    {"readahead", required_argument, NULL, OPTION_READAHEAD},
    {"fast", no_argument, NULL, OPTION_FAST},
    {"format", required_argument, NULL, OPTION_FORMAT},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"inject", required_argument, NULL, OPTION_INJECT},
    {"snapshot", required_argument, NULL, OPTION_SNAPSHOT},
    {"snapshot-start", required_argument, NULL, OPTION_SNAPSHOT_START},
    {"json", no_argument, NULL, OPTION_JSON},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

/* ---- options ---- */

static bool complain(const char *option, const char *text, const char *expected)
{
    fprintf(stderr, "neomm replay: %s: '%s' is not %s\n", option, text, expected);
    return false;
}

static bool parse_injection(const char *text, enum replay_injection *injection)
{
    static const char *const name[] = {NULL, "lose-write", "swap-pages", "stale-read"};
    for (int i = INJECT_LOSE_WRITE; i <= INJECT_STALE_READ; i++) {
        if (strcmp(text, name[i]) == 0) {
            *injection = (enum replay_injection)i;
            return true;
        }
    }
    return complain("--inject", text, "lose-write, swap-pages or stale-read");
}

static bool parse_format(const char *text, enum neomm_format *format)
{
    if (strcmp(text, "4level") != 0 && strcmp(text, "5level") != 0)
        return complain("--format", text, "4level or 5level");
    *format = text[0] == '4' ? NEOMM_FORMAT_4LEVEL : NEOMM_FORMAT_5LEVEL;
    return true;
}

static bool parse_size(const char *option, const char *text, uint64_t least, uint64_t *bytes)
{
    if (!units_size(text, bytes))
        return complain(option, text, "a size such as 64M");
    if (*bytes < least)
        return complain(option, text, least == 4096 ? "at least a page" : "at least 1M");
    *bytes &= ~(uint64_t)4095;
    return true;
}

static bool parse_limit(struct replay_options *options, const char *text)
{
    char *end;
    options->percent = strtoul(text, &end, 10);
    if (end != text && strcmp(end, "%") == 0)
        return (options->percent > 0 && options->percent <= 100) ||
               complain("--resident-limit", text, "1% to 100%");
    options->percent = 0;
    return parse_size("--resident-limit", text, 4096, &options->resident_limit);
}

static bool parse_readahead(struct replay_options *options, const char *text)
{
    uint64_t pages;
    if (!units_number(text, &pages) || pages > NEOMM_READAHEAD_MOST)
        return complain("--readahead", text, "0 to 16");
    options->readahead = (uint32_t)pages;
    options->readahead_given = true;
    return true;
}

static bool parse_option(struct replay_options *options, int option)
{
    switch (option) {
    case OPTION_CONFIG:
        options->config = optarg;
        return true;
    case OPTION_RAM:
        return parse_size("--ram", optarg, 1 << 20, &options->ram);
    case OPTION_SWAP:
        return parse_size("--swap", optarg, 1 << 20, &options->swap);
    case OPTION_LIMIT:
        return parse_limit(options, optarg);
    case OPTION_POLICY:
        options->policy = optarg;
        return true;
    case OPTION_READAHEAD:
        return parse_readahead(options, optarg);
    case OPTION_FAST:
        options->fast = true;
        return true;
    case OPTION_FORMAT:
        return parse_format(optarg, &options->format);
    case OPTION_SEED:
        return units_number(optarg, &options->seed) || complain("--seed", optarg, "a number");
    case OPTION_INJECT:
        return parse_injection(optarg, &options->injection);
    case OPTION_SNAPSHOT:
        options->snapshot = optarg;
        return true;
    case OPTION_SNAPSHOT_START:
        options->snapshot_start = optarg;
        return true;
    case OPTION_JSON:
        options->json = true;
        return true;
    default:
        return false;
    }
}

/* -1: go on; else the exit status. */
static int parse_options(struct replay_options *options, int argc, char **argv)
{
    int option;
    *options = (struct replay_options){
        .ram = 256u << 20, .swap = 1u << 30, .seed = 1, .format = NEOMM_FORMAT_4LEVEL};
    optind = 1;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == OPTION_HELP) {
            fputs(usage, stdout);
            return 0;
        }
        if (!parse_option(options, option))
            return 2;
    }
    if (optind + 1 != argc) {
        fputs(usage, stderr);
        return 2;
    }
    options->trace = argv[optind];
    return -1;
}

/* ---- configuration ---- */

/* A trace does not say what its pages hold, so they are not compressed. */
static bool read_config(struct neomm_config *config, const char *path)
{
    bool good = true;
    if (path)
        good = config_file_read(config, path);
    else
        neomm_config_default(config);
    config->compression = NEOMM_COMPRESSION_OFF;
    return good;
}

/* What the command line leaves open comes from the configuration. */
static void fill_in(struct replay *replay, const struct neomm_config *config,
                    struct neomm_limits *limits)
{
    struct replay_options *options = &replay->options;
    const struct neomm_config_process *process = neomm_config_process(config, "replay");
    if (!options->policy)
        options->policy = config->policy;
    if (!options->readahead_given && options->fast)
        options->readahead = config->readahead;
    if (options->percent != 0) {
        uint64_t share = replay->string.pages * options->percent / 100;
        options->resident_limit = (share ? share : 1) << 12;
    }
    if (options->resident_limit == 0)
        options->resident_limit = neomm_config_bytes(process->resident_limit, options->ram);
    /* The one mapping of a replay is the whole user half, so a virtual limit means nothing. */
    limits->virtual_bytes = NEOMM_UNLIMITED;
    limits->resident_bytes = options->resident_limit;
    limits->swap_bytes = neomm_config_bytes(process->swap_limit, options->ram);
}

/* ---- the machine ---- */

/* sim_system_start has no argument for its caller's use: one replay runs at a time. */
static struct replay *registering;

static neomm_status register_lru(struct neomm *root)
{
    return neomm_policy_register(root, &registering->lru.ops);
}

static bool start_machine(struct replay *replay, const struct neomm_config *config)
{
    const struct replay_options *options = &replay->options;
    const struct neomm_vmm_options vmm = {.policy = options->policy,
                                          .zero_page = false,
                                          .overcommit = NEOMM_OVERCOMMIT_ALWAYS,
                                          .readahead = options->readahead};
    const struct sim_system_options system = {
        .machine = {.format = options->format,
                    .ram_bytes = options->ram,
                    .seed = options->seed,
                    .page_zero = true},
        .layer = SIM_LAYER_VMM,
        .swap_pages = (uint32_t)(options->swap >> 12),
        .config = config,
        .vmm = &vmm,
        .prepare = register_lru,
    };
    if (!lru_create(&replay->lru, (uint32_t)(options->ram >> 12))) {
        fprintf(stderr, "neomm replay: the host is out of memory\n");
        return false;
    }
    replay->use_lru = strcmp(options->policy, "lru") == 0;
    registering = replay;
    neomm_status status = sim_system_start(&replay->system, &system);
    if (status == NEOMM_OK)
        return true;
    if (status == NEOMM_E_NOENT && strcmp(replay->system.step, "vmm") == 0)
        fprintf(stderr, "neomm replay: no policy '%s'\n", options->policy);
    else
        fprintf(stderr, "neomm replay: the machine does not start: %s: %s (see --ram)\n",
                replay->system.step, neomm_status_text(status));
    lru_destroy(&replay->lru);
    return false;
}

/* One process whose user half is all anonymous memory. */
static neomm_status start_process(struct replay *replay, const struct neomm_limits *limits)
{
    struct neomm *root = replay->system.root;
    const struct neomm_layout *layout = neomm_layout_of(root);
    neomm_vaddr_t address = layout->user_base;
    neomm_status status = neomm_space_create(root, limits, &replay->space);
    if (status != NEOMM_OK)
        return status;
    /* Nothing is promised of the whole address space. */
    status = neomm_mmap(root, replay->space, &address, layout->user_limit - layout->user_base,
                        NEOMM_PROT_READ | NEOMM_PROT_WRITE, NEOMM_MAP_FIXED | NEOMM_MAP_NORESERVE);
    if (status == NEOMM_OK)
        neomm_space_activate(root, replay->space);
    else
        (void)neomm_space_destroy(root, replay->space);
    return status;
}

static void print_finding(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "neomm replay: fsck: %s\n", line);
}

/* Ends the process and the machine; everything must be back where it was. */
static bool stop_machine(struct replay *replay)
{
    struct neomm *root = replay->system.root;
    bool clean = neomm_fsck(root, print_finding, NULL) == 0;
    neomm_space_activate(root, NULL);
    neomm_status status = neomm_space_destroy(root, replay->space);
    if (status == NEOMM_OK)
        status = sim_system_stop(&replay->system);
    if (status != NEOMM_OK)
        fprintf(stderr, "neomm replay: the machine does not stop: %s: %s\n", replay->system.step,
                neomm_status_text(status));
    lru_destroy(&replay->lru);
    return clean && status == NEOMM_OK;
}

/* ---- the command ---- */

static bool save_snapshot(struct replay *replay, const char *path)
{
    if (!path || replay_write_snapshot(replay, path))
        return true;
    fprintf(stderr, "neomm replay: %s: cannot write: %s\n", path, strerror(errno));
    return false;
}

static bool run(struct replay *replay)
{
    bool good = save_snapshot(replay, replay->options.snapshot_start) && replay_run(replay);
    if (replay->error[0])
        fprintf(stderr, "%s:%llu: error: %s\n", replay->trace.name,
                (unsigned long long)replay->trace.line, replay->error);
    if (!good)
        return false;
    good = save_snapshot(replay, replay->options.snapshot);
    if (replay->options.injection != INJECT_NOTHING && !replay->damage.done) {
        fprintf(stderr, "neomm replay: --inject: the trace gave no occasion for the damage\n");
        good = false;
    }
    if (replay->options.json)
        replay_report_json(replay);
    else
        replay_report_text(replay);
    return good && replay->results.content_errors == 0;
}

static int replay_on_machine(struct replay *replay, const struct neomm_config *config,
                             const struct neomm_limits *limits)
{
    if (!start_machine(replay, config))
        return 1;
    neomm_status status = start_process(replay, limits);
    if (status != NEOMM_OK || !oracle_create(&replay->oracle)) {
        fprintf(stderr, "neomm replay: the process does not start: %s\n",
                neomm_status_text(status));
        return 1;
    }
    bool good = run(replay);
    good = stop_machine(replay) && good;
    oracle_destroy(&replay->oracle);
    return good ? 0 : 1;
}

/* The frames that the process may have. */
static uint32_t frames_of(const struct replay *replay)
{
    uint64_t frames = replay->options.resident_limit >> 12;
    return frames < replay->string.pages ? (uint32_t)frames : replay->string.pages;
}

static bool run_fast(const struct replay *replay, const struct neomm_config *config,
                     const char *policy, uint32_t readahead, struct fast_results *results)
{
    const struct fast_options options = {.policy = policy,
                                         .frames = frames_of(replay),
                                         .ram_pages = replay->options.ram >> 12,
                                         .readahead = readahead,
                                         .seed = replay->options.seed};
    if (fast_run(&replay->string, config, &options, results))
        return true;
    fprintf(stderr, "neomm replay: %s\n", results->error);
    return false;
}

static bool find_optimum(struct replay *replay, const struct neomm_config *config)
{
    struct fast_results optimal;
    if (!run_fast(replay, config, "opt", 0, &optimal))
        return false;
    replay->results.optimal = optimal.misses;
    return true;
}

/* OPT is one without readahead. */
static int replay_fast(struct replay *replay, const struct neomm_config *config)
{
    const struct replay_options *options = &replay->options;
    struct fast_results results, ahead;
    bool twice = options->readahead != 0 && strcmp(options->policy, "opt") != 0;
    if (!run_fast(replay, config, options->policy, 0, &results) ||
        (twice && !run_fast(replay, config, options->policy, options->readahead, &ahead)))
        return 1;
    replay_report_fast(replay, &results, twice ? &ahead : NULL, frames_of(replay));
    return 0;
}

static int replay_opened(struct replay *replay, const struct neomm_config *config)
{
    struct neomm_limits limits;
    bool whole = replay->options.fast || trace_is_pages(&replay->trace);
    if (whole && !page_string_read(&replay->string, &replay->trace)) {
        fprintf(stderr, "%s:%llu: error: %s\n", replay->trace.name,
                (unsigned long long)replay->trace.line, replay->trace.error);
        return 1;
    }
    if (replay->options.percent != 0 && !whole)
        return complain("--resident-limit", "N%", "known before the end of such a trace") ? 0 : 2;
    fill_in(replay, config, &limits);
    if (whole && !find_optimum(replay, config))
        return 1;
    int status = replay->options.fast ? replay_fast(replay, config)
                                      : replay_on_machine(replay, config, &limits);
    page_string_free(&replay->string);
    return status;
}

int command_replay(int argc, char **argv)
{
    static struct replay replay;
    struct neomm_config config;
    memset(&replay, 0, sizeof(replay));
    int status = parse_options(&replay.options, argc, argv);
    if (status >= 0)
        return status;
    if (!read_config(&config, replay.options.config))
        return 1;
    if (!trace_open(&replay.trace, replay.options.trace)) {
        fprintf(stderr, "%s: error: %s\n", replay.trace.name, replay.trace.error);
        return 1;
    }
    status = replay_opened(&replay, &config);
    trace_close(&replay.trace);
    return status;
}
