/* The machine of a test on the host: a simulated one.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "base/root.h"
#include "sim/boot.h"

#include <stdlib.h>

#define RAM_DEFAULT ((uint64_t)16 << 20)
/* A reference is repeated after this many resolved faults and no more. */
#define RETRIES 32

/* The kernel's page-fault handler: the fault is a lazy page's of the window, or the loaded space's.
 */
static bool on_fault(void *context, neomm_vaddr_t address, uint32_t error)
{
    struct env *env = context;
    if (address >= neomm_layout_of(env->root)->user_limit)
        return neomm_kernel_fault(env->root, address, error, !sim_interrupts_masked()) ==
               NEOMM_FAULT_RESOLVED;
    const struct neomm_tables *tables = neomm__cpu(env->root)->tables;
    struct neomm_space *space = tables ? neomm_space_at(env->root, tables->owner) : NULL;
    struct neomm_fault_result result;
    if (!space)
        return false;
    enum neomm_fault_outcome outcome = neomm_fault(env->root, space, address, error, &result);
    return outcome == NEOMM_FAULT_RESOLVED || outcome == NEOMM_FAULT_RETRY;
}

static uint64_t used_frames(struct neomm *root)
{
    uint64_t used = 0;
    for (int zone = 0; zone < NEOMM_ZONES; zone++) {
        struct neomm_zone_stats stats;
        neomm_pmm_zone_stats(root, (enum neomm_zone)zone, &stats);
        used += stats.used;
    }
    return used;
}

bool env_open(struct ktap *t, struct env *env, const struct env_options *options)
{
    struct sim_system *system = calloc(1, sizeof(*system));
    struct neomm_config config;
    if (options->config)
        config = *options->config;
    else
        neomm_config_default(&config);
    if (options->no_pool)
        config.compression = NEOMM_COMPRESSION_OFF;
    const struct neomm_vmm_options vmm = {.policy = options->policy,
                                          .zero_page = !options->no_zero_page,
                                          .aslr = options->aslr,
                                          .overcommit = options->overcommit,
                                          .huge = options->huge,
                                          .readahead = options->readahead};
    const struct sim_system_options start = {
        .machine = {.format = options->format,
                    .ram_bytes = options->ram_bytes ? options->ram_bytes : RAM_DEFAULT,
                    .cpus = options->cpus,
                    .seed = options->seed,
                    .whims = options->whims},
        .layer = (enum sim_layer)options->layer,
        .map = options->map,
        .map_count = options->map_count,
        .swap_pages = (uint32_t)options->swap_pages,
        .config = &config,
        .vmm = &vmm,
    };
    *env = (struct env){.options = *options, .system = system};
    neomm_status status = system ? sim_system_start(system, &start) : NEOMM_E_NOMEM;
    if (status != NEOMM_OK) {
        ktap_note(t, "env_open: %s: %s", system ? system->step : "host", neomm_status_text(status));
        ktap_fail(t, __FILE__, __LINE__, "the system did not start");
        free(system);
        return false;
    }
    env->root = system->root;
    env->machine = system->sim;
    env->disk = system->disk;
    if (options->layer >= ENV_VMM)
        sim_set_fault_handler(system->sim, on_fault, env);
    sim_watch_pages(system->sim, options->layer >= ENV_VMM);
    if (options->layer >= ENV_PMM)
        env->used_at_start = used_frames(env->root);
    return true;
}

static void note_finding(void *context, const char *line)
{
    ktap_note(context, "fsck: %s", line);
}

void env_fsck(struct ktap *t, struct env *env)
{
    EXPECT_EQ(t, neomm_fsck(env->root, note_finding, t), 0);
}

/* With keep_going the test looks at violations itself. */
static void check_machine(struct ktap *t, struct sim *sim)
{
    EXPECT_EQ(t, sim_check_end(sim), 0);
    if (!sim_keeps_going(sim))
        EXPECT_EQ(t, sim_violations(sim), 0);
}

void env_close(struct ktap *t, struct env *env)
{
    struct sim_system *system = env->system;
    (void)env_fault_plan(env, 0, false);
    sim_bind(system->sim, 0);
    env_fsck(t, env);
    neomm_status status = sim_system_end_layers(system);
    if (status != NEOMM_OK)
        ktap_note(t, "env_close: %s: %s", system->step, neomm_status_text(status));
    EXPECT_OK(t, status);
    sim_bind(system->sim, 0);
    check_machine(t, system->sim);
    sim_destroy(system->sim);
    free(system);
    env->root = NULL;
}

void env_abandon(struct env *env)
{
    sim_destroy(env->machine);
    free(env->system);
}

void env_switch_cpu(struct env *env, uint32_t cpu)
{
    sim_bind(env->machine, cpu);
}

/* The part of an access that lies in one page. */
static neomm_status access_page(struct env *env, struct neomm_space *space, neomm_vaddr_t vaddr,
                                void *data, size_t size, bool write, bool user)
{
    for (unsigned i = 0; i < RETRIES; i++) {
        struct neomm_fault_result result;
        uint32_t error = 0;
        if (sim_move(env->machine, vaddr, data, size, write ? SIM_WRITE : SIM_READ, user, &error))
            return NEOMM_OK;
        if (!space)
            return NEOMM_E_FAULT;
        enum neomm_fault_outcome outcome = neomm_fault(env->root, space, vaddr, error, &result);
        if (outcome != NEOMM_FAULT_RESOLVED && outcome != NEOMM_FAULT_RETRY)
            return NEOMM_E_FAULT;
    }
    return NEOMM_E_FAULT;
}

neomm_status env_access(struct env *env, struct neomm_space *space, neomm_vaddr_t vaddr, void *data,
                        size_t size, bool write, bool user)
{
    uint8_t *bytes = data;
    while (size > 0) {
        size_t part = NEOMM_PAGE_SIZE - ((size_t)vaddr & (NEOMM_PAGE_SIZE - 1));
        part = part < size ? part : size;
        neomm_status status = access_page(env, space, vaddr, bytes, part, write, user);
        if (status != NEOMM_OK)
            return status;
        vaddr += part;
        bytes += part;
        size -= part;
    }
    return NEOMM_OK;
}

bool env_fault_plan(struct env *env, uint64_t n, bool forever)
{
    sim_fault_plan(env->machine, n, forever);
    return NEOMM_INSTRUMENTED != 0;
}

uint64_t env_fault_count(struct env *env)
{
    return sim_fault_count(env->machine);
}
