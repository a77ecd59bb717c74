/* A program from outside: a port for one CPU, a root over a piece of ordinary memory, frames and
 * the heap on it. Every way of getting at the library builds and runs this.
 * SPDX-License-Identifier: MIT */
#include <neomm/neomm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if NEOMM_INSTRUMENTED
#include <neomm/hook.h>
#endif

#define RAM_BYTES ((size_t)16 << 20)
#define PATTERN   0x5a

static struct neomm_cpu cpu;

void neomm_port_panic(const char *text)
{
    fprintf(stderr, "panic: %s\n", text);
    exit(3);
}

void neomm_port_log(enum neomm_log_level level, const char *text, size_t length)
{
    fprintf(stderr, "%d: %.*s\n", (int)level, (int)length, text);
}

struct neomm_cpu *neomm_port_cpu(void)
{
    return &cpu;
}

struct neomm_cpu *neomm_port_pin(void)
{
    return &cpu;
}

void neomm_port_unpin(void)
{
}

neomm_irq_t neomm_port_irq_save(void)
{
    return 0;
}

void neomm_port_irq_restore(neomm_irq_t state)
{
    (void)state;
}

/* There is no other CPU. */
void neomm_port_ipi(const struct neomm_cpumask *cpus, void (*call)(void *argument), void *argument)
{
    (void)cpus, (void)call, (void)argument;
}

#if NEOMM_INSTRUMENTED
bool neomm_hook_fault(enum neomm_fault_site site)
{
    (void)site;
    return false;
}

void neomm_hook_frames_allocated(neomm_frame_t frame, uint32_t count)
{
    (void)frame, (void)count;
}

void neomm_hook_frames_freed(neomm_frame_t frame, uint32_t count)
{
    (void)frame, (void)count;
}

void neomm_hook_object_freed(const void *object, size_t size)
{
    (void)object;
    (void)size;
}

void neomm_hook_object_taken(const void *object, size_t size)
{
    (void)object;
    (void)size;
}

void neomm_hook_yield(void)
{
}

void neomm_hook_store_late(uint32_t *word, uint32_t value)
{
    *word = value;
}

void neomm_hook_spin(void)
{
}

void neomm_hook_locked(enum neomm_lock_class lock_class)
{
    (void)lock_class;
}

void neomm_hook_unlocked(enum neomm_lock_class lock_class)
{
    (void)lock_class;
}
#endif

static void check(int line, bool holds)
{
    if (!holds) {
        fprintf(stderr, "consumer.c:%d does not hold\n", line);
        exit(1);
    }
}
#define CHECK(condition) check(__LINE__, condition)

static struct neomm *start(unsigned char *ram, void *memory, size_t size)
{
    struct neomm_options options = {.cpus = 1};
    struct neomm_boot_range storage[32];
    struct neomm_bootmap map;
    struct neomm *root = NULL;
    const struct neomm_pmm_options pmm = {0};

    CHECK(neomm_layout_default(sizeof(void *) == 8 ? NEOMM_FORMAT_4LEVEL : NEOMM_FORMAT_2LEVEL,
                               RAM_BYTES, &options.layout) == NEOMM_OK);
    options.layout.direct.delta = (intptr_t)((uintptr_t)ram - options.layout.direct.base);
    CHECK(neomm_init(memory, size, &options, &root) == NEOMM_OK);
    cpu.root = root;

    neomm_bootmap_init(&map, storage, 32);
    CHECK(neomm_bootmap_add(&map, 0, RAM_BYTES, NEOMM_MEMORY_USABLE) == NEOMM_OK);
    CHECK(neomm_bootmap_resolve(&map, 0, NULL, NULL) == NEOMM_OK);
    CHECK(neomm_pmm_init(root, &map, &pmm) == NEOMM_OK);
    CHECK(neomm_heap_init(root, NULL) == NEOMM_OK);
    return root;
}

int main(void)
{
    size_t size = (neomm_root_size(1) + 63) & ~(size_t)63;
    unsigned char *ram = aligned_alloc(NEOMM_PAGE_SIZE, RAM_BYTES);
    void *memory = aligned_alloc(64, size);
    struct neomm *root;
    unsigned char *block;

    CHECK(ram != NULL && memory != NULL);
    root = start(ram, memory, size);
    block = neomm_kmalloc(root, 1000, 0);
    CHECK(block != NULL && block >= ram && block < ram + RAM_BYTES);
    memset(block, PATTERN, 1000);
    block = neomm_krealloc(root, block, 5000, 0);
    CHECK(block != NULL && block[0] == PATTERN && block[999] == PATTERN);
    CHECK(neomm_kfree(root, block) == NEOMM_OK);
    CHECK(neomm_fsck(root, NULL, NULL) == 0);
    CHECK(neomm_heap_fini(root) == NEOMM_OK);
    CHECK(neomm_pmm_fini(root) == NEOMM_OK);
    CHECK(neomm_fini(root) == NEOMM_OK);
    free(memory);
    free(ram);
    printf("neomm %d.%d.%d works from outside\n", NEOMM_VERSION_MAJOR, NEOMM_VERSION_MINOR,
           NEOMM_VERSION_PATCH);
    return 0;
}
