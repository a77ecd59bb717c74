/* neomm map: runs the library's boot map and frame allocator over a firmware memory map.
 * SPDX-License-Identifier: MIT */
#include "map.h"

#include "commands.h"
#include "units.h"

#include <neomm/root.h>
#include <sim/sim.h>

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const char usage[] =
    "usage: neomm map [--limit SIZE] [--json] FILE|-\n"
    "\n"
    "Prints what a kernel gets from a firmware memory map: the map with overlaps resolved, the\n"
    "zones, and every part that is lost, with the reason. Lines that are read:\n"
    "\n"
    "  ... BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable   as Linux prints it\n"
    "  START END TYPE     hexadecimal addresses with or without 0x; END is the first byte behind;\n"
    "                     TYPE: usable, reserved, ACPI data, ACPI NVS, unusable, kernel, boot,\n"
    "                     hotplug, or a number as in the firmware's table\n"
    "\n"
    "Empty lines and lines that begin with # do not count; others are skipped and counted.\n"
    "\n"
    "  --limit SIZE   what the kernel can address, as 4G or 0x100000000 (default and most: 16T)\n"
    "  --json         one JSON object (schema neomm.map/1), sizes in bytes\n"
    "\n"
    "Exit status: 0 printed, 1 a broken or empty map, 2 usage.\n";

struct arguments {
    const char *file;
    uint64_t limit;
    bool json;
};

/* -1: go on; else the exit status. */
static int parse_arguments(struct arguments *arguments, int argc, char **argv)
{
    static const struct option options[] = {{"limit", required_argument, NULL, 'l'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h') {
            (void)fputs(usage, stdout);
            return 0;
        }
        if (option == 'j') {
            arguments->json = true;
        } else if (option != 'l') {
            (void)fputs("Try `neomm map --help`.\n", stderr);
            return 2;
        } else if (!units_size(optarg, &arguments->limit) || arguments->limit < NEOMM_PAGE_SIZE) {
            (void)fprintf(stderr, "map: --limit: `%s` is not a size of 4K or more\n", optarg);
            return 2;
        }
    }
    if (optind + 1 != argc) {
        (void)fputs(usage, stderr);
        return 2;
    }
    arguments->file = argv[optind];
    return -1;
}

/* Only what a kernel loses: device registers above the limit are no loss. */
static void keep_note(void *context, enum neomm_boot_note note, const struct neomm_boot_range *part)
{
    struct map_result *result = context;
    if (note == NEOMM_BOOT_LIMIT && part->type > NEOMM_MEMORY_ACPI)
        return;
    if (result->note_count < result->note_capacity)
        result->notes[result->note_count] = (struct map_note){note, *part};
    result->note_count++;
}

static bool resolve_into(struct map_result *result, struct neomm_boot_range *storage,
                         uint32_t capacity)
{
    const struct map_input *input = result->input;
    neomm_bootmap_init(&result->map, storage, capacity);
    for (uint32_t i = 0; i < input->count; i++)
        if (neomm_bootmap_add(&result->map, input->entries[i].base, input->entries[i].length,
                              input->entries[i].type) != NEOMM_OK)
            return false;
    result->note_count = 0;
    return neomm_bootmap_resolve(&result->map, result->limit, keep_note, result) == NEOMM_OK;
}

/* Resolves twice: the first time says how many notes there are. */
static bool resolve(struct map_result *result)
{
    uint32_t capacity = 3 * result->input->count + 16;
    struct neomm_boot_range *storage = calloc(capacity, sizeof(*storage));
    if (!storage || !resolve_into(result, storage, capacity)) {
        free(storage);
        return false;
    }
    result->note_capacity = result->note_count;
    result->notes = calloc(result->note_capacity + 1, sizeof(*result->notes));
    return result->notes && resolve_into(result, storage, capacity);
}

/* Zeros that are not backed before they are written; NULL: the host refuses. */
static void *reserve_host_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static neomm_status look_at_zones(struct map_result *result, struct neomm *root)
{
    for (int zone = 0; zone < NEOMM_ZONES; zone++)
        neomm_pmm_zone_stats(root, (enum neomm_zone)zone, &result->zone[zone]);
    return neomm_pmm_fini(root);
}

/* A kernel's frame allocator over this map. Its direct map is host memory that is reserved and
 * not backed: of it the allocator writes its bitmaps and nothing else, the rest being zero. Where
 * the map has no room for its metadata, they lie outside, and the report says so. */
static neomm_status boot(struct map_result *result, struct neomm *root)
{
    struct neomm_pmm_options options = {.metadata_zeroed = true};
    neomm_status status = neomm_pmm_init(root, &result->map, &options);
    if (status == NEOMM_E_NOMEM) {
        result->homeless = neomm_pmm_metadata_size(root, &result->map);
        options.metadata_size = (size_t)result->homeless;
        options.metadata = reserve_host_memory(options.metadata_size);
        status = options.metadata ? neomm_pmm_init(root, &result->map, &options) : status;
    }
    if (status == NEOMM_OK)
        status = look_at_zones(result, root);
    if (options.metadata)
        (void)munmap(options.metadata, options.metadata_size);
    return status;
}

static neomm_status boot_on_host(struct map_result *result)
{
    struct neomm_options options = {.cpus = 1};
    struct neomm *root;
    neomm_paddr_t end = neomm_bootmap_end(&result->map);
    neomm_status status = neomm_layout_default(NEOMM_FORMAT_4LEVEL, end, &options.layout);
    if (status != NEOMM_OK)
        return status;
    void *memory = aligned_alloc(64, (neomm_root_size(1) + 63) & ~(size_t)63);
    void *ram = reserve_host_memory(end);
    if (!memory || !ram) {
        free(memory);
        return NEOMM_E_NOMEM;
    }
    options.layout.direct.delta = (intptr_t)((uintptr_t)ram - options.layout.direct.base);
    status = neomm_init(memory, neomm_root_size(1), &options, &root);
    if (status == NEOMM_OK)
        status = boot(result, root);
    (void)munmap(ram, end);
    free(memory);
    return status;
}

/* The smallest machine there is: the library asks its port for the CPU it runs on. */
static neomm_status boot_on_machine(struct map_result *result)
{
    const struct sim_options options = {.format = NEOMM_FORMAT_4LEVEL,
                                        .ram_bytes = (uint64_t)4 << 20};
    struct sim *sim = sim_create(&options);
    if (!sim)
        return NEOMM_E_NOMEM;
    neomm_status status = boot_on_host(result);
    sim_destroy(sim);
    return status;
}

static int run(const struct arguments *arguments, const struct map_input *input, const char *name)
{
    struct map_result result = {.input = input, .limit = arguments->limit};
    int exit_status = 1;
    neomm_status status;
    if (!resolve(&result))
        (void)fprintf(stderr, "%s: error: out of memory\n", name);
    else if (neomm_bootmap_end(&result.map) == 0)
        (void)fprintf(stderr, "%s: error: no usable memory in %u entries\n", name, input->count);
    else if ((status = boot_on_machine(&result)) != NEOMM_OK)
        (void)fprintf(stderr, "%s: error: a kernel cannot start on this map: %s\n", name,
                      neomm_status_text(status));
    else
        exit_status = 0;
    if (exit_status == 0) {
        if (arguments->json)
            map_print_json(&result);
        else
            map_print_text(&result);
    }
    free(result.map.ranges);
    free(result.notes);
    return exit_status;
}

int command_map(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct map_input input = {0};
    int status = parse_arguments(&arguments, argc, argv);
    if (status >= 0)
        return status;
    bool standard = strcmp(arguments.file, "-") == 0;
    const char *name = standard ? "<stdin>" : arguments.file;
    FILE *file = standard ? stdin : fopen(arguments.file, "r");
    if (!file) {
        (void)fprintf(stderr, "%s: error: %s\n", name, strerror(errno));
        return 1;
    }
    status = 1;
    if (map_read(file, name, &input) && input.errors == 0) {
        if (input.count == 0)
            (void)fprintf(stderr, "%s: error: no memory map here: %llu lines, none an entry\n",
                          name, (unsigned long long)input.lines);
        else
            status = run(&arguments, &input, name);
    }
    if (!standard)
        (void)fclose(file);
    free(input.entries);
    return status;
}
