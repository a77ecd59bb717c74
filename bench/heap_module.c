/* The port of the heap benchmarks, and a heap on it.
 * SPDX-License-Identifier: MIT
 *
 * Nothing here imitates a machine: there are no interrupts to mask. RAM is memory of the host in
 * small pages, as the peers have it, but all of it is there from the beginning, as in a kernel.
 */
#include "heap_module.h"

#include <neomm/heap_debug.h>
#include <neomm/neomm.h>

#include <linux/membarrier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

/* ---- the port ---- */

__thread struct neomm_cpu *neomm_bench_cpu
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

static struct neomm_cpu cpus[BENCH_HEAP_CPUS];

#ifndef NEOMM_PORT_INLINE
struct neomm_cpu *neomm_port_cpu(void)
{
    return neomm_bench_cpu;
}

struct neomm_cpu *neomm_port_pin(void)
{
    return neomm_bench_cpu;
}

void neomm_port_unpin(void)
{
}
#endif

NEOMM_NORETURN void neomm_port_panic(const char *text)
{
    (void)fprintf(stderr, "neomm-bench: panic: %s\n", text);
    abort();
}

void neomm_port_log(enum neomm_log_level level, const char *text, size_t length)
{
    if (level <= NEOMM_LOG_WARNING)
        (void)fprintf(stderr, "neomm-bench: %.*s\n", (int)length, text);
}

neomm_irq_t neomm_port_irq_save(void)
{
    return 0;
}

void neomm_port_irq_restore(neomm_irq_t state)
{
    (void)state;
}

/* The heap and the frame allocator only want what other CPUs did before to be seen: the host's
 * kernel interrupts every CPU that runs a thread of this process. */
void neomm_port_ipi(const struct neomm_cpumask *mask, void (*call)(void *argument), void *argument)
{
    (void)mask;
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0)
        neomm_port_panic("no membarrier");
    call(argument);
}

/* Nothing that is measured depends on these. */
uint64_t neomm_port_now(void)
{
    return 0;
}

uint64_t neomm_port_entropy(void)
{
    return 0;
}

/* ---- a heap ---- */

/* A root and its RAM. */
struct instance {
    struct neomm *root;
    void *memory;
    uint8_t *ram;
    uint64_t ram_bytes;
    uint64_t free_frames; /* before the heap began */
};

static struct instance instances[BENCH_HEAP_ROOTS];

static struct instance *instance_of(const struct neomm *root)
{
    for (uint32_t i = 0; i < BENCH_HEAP_ROOTS; i++)
        if (instances[i].root == root)
            return &instances[i];
    return NULL;
}

static void bind(uint32_t cpu)
{
    cpus[cpu].index = cpu;
    neomm_bench_cpu = &cpus[cpu];
}

static neomm_status start_frames(struct instance *instance)
{
    const struct neomm_pmm_options options = {.metadata = NULL};
    struct neomm_boot_range storage[8];
    struct neomm_bootmap map;
    neomm_bootmap_init(&map, storage, 8);
    neomm_status status = neomm_bootmap_add(&map, 0, instance->ram_bytes, NEOMM_MEMORY_USABLE);
    if (status == NEOMM_OK)
        status = neomm_bootmap_resolve(&map, 0, NULL, NULL);
    return status == NEOMM_OK ? neomm_pmm_init(instance->root, &map, &options) : status;
}

static neomm_status start_root(struct instance *instance)
{
    struct neomm_options options = {.cpus = BENCH_HEAP_CPUS};
    size_t size = neomm_root_size(BENCH_HEAP_CPUS);
    neomm_status status =
        neomm_layout_default(NEOMM_FORMAT_4LEVEL, instance->ram_bytes, &options.layout);
    options.layout.direct.delta =
        (intptr_t)((uintptr_t)instance->ram - (uintptr_t)options.layout.direct.base);
    instance->memory = aligned_alloc(64, (size + 63) / 64 * 64);
    if (status != NEOMM_OK || !instance->memory)
        return NEOMM_E_NOMEM;
    return neomm_init(instance->memory, size, &options, &instance->root);
}

/* So that objects can be guarded, as far as it takes time. */
static neomm_status protect_nothing(void *context, void *run, uint32_t pages, neomm_prot_t prot)
{
    (void)context, (void)run, (void)pages, (void)prot;
    return NEOMM_OK;
}

static neomm_status start_heap(struct instance *instance, bool fine_classes)
{
    struct neomm_page_source source;
    neomm_heap_source_direct(instance->root, &source);
    source.protect = protect_nothing;
    const struct neomm_heap_options options = {.source = &source, .fine_classes = fine_classes};
    instance->free_frames = neomm_pmm_free_frames(instance->root);
    return neomm_heap_init(instance->root, &options);
}

static void forget(struct instance *instance)
{
    if (instance->ram)
        (void)munmap(instance->ram, instance->ram_bytes);
    free(instance->memory);
    *instance = (struct instance){.root = NULL};
}

static struct neomm *start(uint64_t ram_bytes, bool fine_classes)
{
    struct instance *instance = instance_of(NULL);
    if (!instance || syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0)
        return NULL;
    void *ram = mmap(NULL, ram_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (ram == MAP_FAILED)
        return NULL;
    *instance = (struct instance){.ram = ram, .ram_bytes = ram_bytes};
    bind(0);
    neomm_status status = start_root(instance);
    if (status == NEOMM_OK)
        status = start_frames(instance);
    if (status == NEOMM_OK)
        status = start_heap(instance, fine_classes);
    if (status == NEOMM_OK)
        return instance->root;
    (void)fprintf(stderr, "neomm-bench: heap: %s\n", neomm_status_text(status));
    forget(instance);
    return NULL;
}

static bool stop(struct neomm *root)
{
    bool good = neomm_fsck(root, NULL, NULL) == 0 && neomm_heap_fini(root) == NEOMM_OK &&
                neomm_pmm_fini(root) == NEOMM_OK && neomm_fini(root) == NEOMM_OK;
    forget(instance_of(root));
    return good;
}

static uint64_t held(struct neomm *root)
{
    const struct instance *instance = instance_of(root);
    return (instance->free_frames - neomm_pmm_free_frames(root)) << NEOMM_PAGE_SHIFT;
}

/* ---- watched for a while ---- */

static bool use(struct neomm *root)
{
    void *block[64];
    bool good = true;
    for (unsigned i = 0; i < 64; i++)
        good = (block[i] = neomm_kmalloc(root, 64, 0)) != NULL && good;
    for (unsigned i = 0; i < 64; i++)
        good = neomm_kfree(root, block[i]) == NEOMM_OK && good;
    return good;
}

static void note_site(void *context, const struct neomm_heap_site_stats *stats)
{
    (void)stats;
    *(bool *)context = true;
}

static bool watch_a_while(struct neomm *root)
{
    bool counted = false;
    bool good = neomm_heap_track(root, true) == NEOMM_OK && use(root);
    void *block = neomm_kmalloc(root, 64, 0);
    neomm_heap_sites(root, 1, note_site, &counted);
    good = neomm_kfree(root, block) == NEOMM_OK && good && counted;
    good = neomm_heap_track(root, false) == NEOMM_OK && good;
    good = neomm_heap_set_sampling(root, 3) == NEOMM_OK && good;
    good = neomm_heap_set_profile(root, NULL, NEOMM_HEAP_GUARDED) == NEOMM_OK && use(root) && good;
    good = neomm_heap_set_profile(root, NULL, NEOMM_HEAP_DEFAULT) == NEOMM_OK && good;
    return neomm_heap_set_sampling(root, 0) == NEOMM_OK && good;
}

extern const struct bench_heap neomm_bench_heap;
EXPORTED const struct bench_heap neomm_bench_heap = {
    .start = start,
    .stop = stop,
    .bind = bind,
    .held = held,
    .alloc = neomm_kmalloc_at,
    .free = neomm_kfree,
    .resize = neomm_krealloc_at,
    .usable = neomm_ksize,
    .shrink = neomm_heap_shrink,
    .cache_for = neomm_kmem_for,
    .alloc_bulk = neomm_kmem_alloc_bulk,
    .free_bulk = neomm_kmem_free_bulk,
    .watch_a_while = watch_a_while,
};
