/* The machine of a test in the kernel: a second instance of the memory manager over memory that
 * the first leaves alone, with page tables of its own that the CPU really uses.
 * SPDX-License-Identifier: MIT
 *
 * One CPU, one machine at a time, and the format that was booted, whatever the test asks for. While
 * there are no page tables of the test's, its physical addresses may begin at 0: `delta` tells
 * where that is. With tables they are the machine's, and begin at ENV_MEMORY.
 */
#include "env_kernel.h"
#include "env.h"
#include "hooks.h"
#include "kernel.h"
#include "system.h"

#define RAM_DEFAULT ((uint64_t)16 << 20)

static struct {
    struct system system;
    struct neomm_boot_range storage[64];
    struct neomm_bootmap map;
    struct neomm_layout layout;
    struct neomm_config config;
    bool accessing; /* inside env_access, whose faults are those of: */
    struct neomm_space *accessed;
} machine;

#define SPACES_SEARCHED 256

/* The space whose tables CR3 holds. */
static struct neomm_space *find_space(void)
{
    if (machine.accessing)
        return machine.accessed;
    uint32_t top = (uint32_t)(neomm_cpu_read_cr3() >> NEOMM_PAGE_SHIFT);
    for (uint32_t i = 1; i < SPACES_SEARCHED; i++) {
        struct neomm_space *space = neomm_space_at(machine.system.root, i);
        if (space && neomm_space_tables(space)->top.number == top)
            return space;
    }
    return NULL;
}

static bool has_tables(const struct env_options *options)
{
    return options->layer >= ENV_PAGING;
}

static uint64_t ram_of(const struct env_options *options)
{
    return options->ram_bytes ? options->ram_bytes : RAM_DEFAULT;
}

static uint64_t disk_bytes(const struct env_options *options)
{
    return options->swap_pages * NEOMM_PAGE_SIZE;
}

static bool map_fits(const struct env_options *options)
{
    for (uint32_t i = 0; i < options->map_count; i++)
        if (options->map[i].base > ENV_MEMORY_SIZE ||
            options->map[i].length > ENV_MEMORY_SIZE - options->map[i].base)
            return false;
    return true;
}

static bool unsupported(struct ktap *t, const struct env_options *options)
{
    if (options->cpus > 1)
        ktap_skip(t, "the kernel has one CPU");
    else if (ram_of(options) + disk_bytes(options) > ENV_MEMORY_SIZE)
        ktap_skip(t, "more memory than there is for tests");
    else if (options->map && (has_tables(options) || !map_fits(options)))
        ktap_skip(t, "a map of another machine");
    return t->skipped != NULL;
}

/* RAM first, the disk's memory behind it: mapped, but not to be handed out. */
static neomm_status make_map(const struct env_options *options)
{
    const neomm_paddr_t base = has_tables(options) ? ENV_MEMORY : 0, ram = ram_of(options);
    const struct neomm_boot_range all[] = {{base, ram, NEOMM_MEMORY_USABLE},
                                           {base + ram, disk_bytes(options), NEOMM_MEMORY_BOOT}};
    const struct neomm_boot_range *range = options->map ? options->map : all;
    uint32_t count = options->map ? options->map_count : options->swap_pages ? 2 : 1;
    neomm_status status = NEOMM_OK;
    neomm_bootmap_init(&machine.map, machine.storage,
                       sizeof(machine.storage) / sizeof(machine.storage[0]));
    for (uint32_t i = 0; i < count && status == NEOMM_OK; i++)
        status = neomm_bootmap_add(&machine.map, range[i].base, range[i].length, range[i].type);
    if (status == NEOMM_OK)
        status = neomm_bootmap_resolve(&machine.map, 0, NULL, NULL);
    return status;
}

static neomm_status make_layout(const struct env_options *options)
{
    neomm_paddr_t end = ram_of(options) + disk_bytes(options);
    neomm_status status = memory_layout(ENV_MEMORY + end, &machine.layout);
    if (!has_tables(options))
        machine.layout.direct.delta = ENV_MEMORY;
    return status;
}

static enum system_layer system_layer_of(enum env_layer layer)
{
    return (enum system_layer)((int)SYSTEM_ROOT + (int)layer);
}

static neomm_status start(const struct env_options *options)
{
    if (options->config)
        machine.config = *options->config;
    else
        neomm_config_default(&machine.config);
    if (options->no_pool)
        machine.config.compression = NEOMM_COMPRESSION_OFF;
    const struct neomm_vmm_options vmm = {.policy = options->policy,
                                          .zero_page = !options->no_zero_page,
                                          .aslr = options->aslr,
                                          .overcommit = options->overcommit,
                                          .huge = options->huge,
                                          .readahead = options->readahead};
    const struct system_options system = {
        .layer = system_layer_of(options->layer),
        .layout = &machine.layout,
        .map = &machine.map,
        .config = &machine.config,
        .vmm = &vmm,
        .disk_pages = (uint32_t)options->swap_pages,
        .disk_memory = neomm_direct_pointer(memory_root(), ENV_MEMORY + ram_of(options)),
    };
    neomm_status status = make_map(options);
    if (status == NEOMM_OK)
        status = make_layout(options);
    return status == NEOMM_OK ? system_start(&machine.system, &system) : status;
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
    *env = (struct env){.options = *options};
    if (unsupported(t, options))
        return false;
    /* A test that gave up has left its machine behind. */
    system_abandon(&machine.system);
    machine.system.step = "map";
    neomm_status status = start(options);
    if (status != NEOMM_OK) {
        ktap_note(t, "env_open: %s: %s", machine.system.step, neomm_status_text(status));
        ktap_fail(t, __FILE__, __LINE__, "the system did not start");
        return false;
    }
    env->root = machine.system.root;
    env->machine = &machine;
    env->system = &machine.system;
    env->disk = options->swap_pages ? &machine.system.disk.device : NULL;
    kernel_cpu.root = env->root;
    trap_set_finder(options->layer >= ENV_VMM ? find_space : NULL);
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

/* What cannot be ended is left as it is: the CPU goes back to the kernel's tables all the same,
 * so that the next test finds a machine. */
void env_close(struct ktap *t, struct env *env)
{
    (void)env_fault_plan(env, 0, false);
    env_fsck(t, env);
    neomm_status status = system_stop(&machine.system, SYSTEM_NOTHING);
    if (status != NEOMM_OK) {
        ktap_note(t, "env_close: %s: %s", machine.system.step, neomm_status_text(status));
        system_abandon(&machine.system);
    }
    EXPECT_OK(t, status);
    kernel_cpu.root = memory_root();
    trap_set_finder(NULL);
    env->root = NULL;
}

void env_switch_cpu(struct env *env, uint32_t cpu)
{
    (void)env;
    (void)cpu;
}

/* By the primitive that copies user memory, which reports a fault instead of crashing. It has
 * the rights of the kernel to the user's pages: those alone, where `user`. */
neomm_status env_access(struct env *env, struct neomm_space *space, neomm_vaddr_t vaddr, void *data,
                        size_t size, bool write, bool user)
{
    neomm_vaddr_t limit = neomm_layout_of(env->root)->user_limit;
    if (user && (vaddr >= limit || size > limit - vaddr))
        return NEOMM_E_FAULT;
    machine.accessing = true;
    machine.accessed = space;
    size_t left = neomm_cpu_user_copy(vaddr, data, size, write);
    machine.accessing = false;
    return left == 0 ? NEOMM_OK : NEOMM_E_FAULT;
}

bool env_fault_plan(struct env *env, uint64_t n, bool forever)
{
    (void)env;
#if NEOMM_INSTRUMENTED
    hooks_fault_plan(n, forever);
    return true;
#else
    (void)n;
    (void)forever;
    return false;
#endif
}

uint64_t env_fault_count(struct env *env)
{
    (void)env;
#if NEOMM_INSTRUMENTED
    return hooks_fault_count();
#else
    return 0;
#endif
}
