/* The in-kernel tests: every layer on the real machine, user mode included.
 * SPDX-License-Identifier: MIT
 *
 * The cases build on one another: `program` is a space that lives from case to case.
 */
#include "kernel.h"

#include <neomm/heap_debug.h>

#define PAGE              NEOMM_PAGE_SIZE
#define RW                (NEOMM_PROT_READ | NEOMM_PROT_WRITE)
#define RX                (NEOMM_PROT_READ | NEOMM_PROT_EXEC)
#define DATA_PAGES        8
#define SEED              0x5a5a
#define VECTOR_PROTECTION 13
#define VECTOR_PAGE_FAULT 14
#define CPUID_81_EDX_NX   (1u << 20)

struct program {
    struct neomm_space *space;
    neomm_vaddr_t code, data, stack;
};

static struct program program;
static uint64_t free_before; /* frames, before `program` was made */

static neomm_status load_image(struct program *p)
{
    size_t size = (size_t)(user_image_end - user_image);
    neomm_status status = neomm_mmap(memory_root(), p->space, &p->code, size, RW, 0);
    if (status == NEOMM_OK)
        status = neomm_copy_to_user(memory_root(), p->space, p->code, user_image, size, NULL);
    if (status == NEOMM_OK)
        status = neomm_mprotect(memory_root(), p->space, p->code, PAGE, RX);
    return status;
}

/* A loaded space with the user image, `pages` of data and a page of stack. */
static neomm_status program_start(struct program *p, uint32_t pages,
                                  const struct neomm_limits *limits)
{
    *p = (struct program){0};
    neomm_status status = neomm_space_create(memory_root(), limits, &p->space);
    if (status != NEOMM_OK)
        return status;
    user_set_space(p->space);
    status = load_image(p);
    if (status == NEOMM_OK)
        status = neomm_mmap(memory_root(), p->space, &p->data, pages * PAGE, RW, 0);
    if (status == NEOMM_OK)
        status = neomm_mmap(memory_root(), p->space, &p->stack, PAGE, RW, 0);
    return status;
}

static neomm_status program_end(struct program *p)
{
    user_set_space(NULL);
    neomm_status status = neomm_space_destroy(memory_root(), p->space);
    p->space = NULL;
    return status;
}

static struct user_end run(const struct program *p, const char *function, uintptr_t a, uintptr_t b,
                           uintptr_t c)
{
    const uintptr_t arguments[USER_ARGUMENTS] = {a, b, c};
    struct user_end end;
    user_run(p->code + (neomm_vaddr_t)(function - user_image), p->stack + PAGE, arguments, &end);
    return end;
}

static struct neomm_space_stats stats_of(const struct program *p)
{
    struct neomm_space_stats stats;
    neomm_space_stats(memory_root(), p->space, &stats);
    return stats;
}

/* Pages that came back from swap, each by a fault or with one that did. */
static uint64_t pages_back(const struct program *p)
{
    struct neomm_space_stats stats = stats_of(p);
    return stats.faults_swap_in + stats.read_ahead;
}

static uint64_t free_frames(void)
{
    neomm_heap_shrink(memory_root());
    return neomm_pmm_free_frames(memory_root());
}

static void fsck_line(void *context, const char *line)
{
    ktap_fail(context, "neomm_fsck", 0, line);
}

static void frames(struct ktap *t)
{
    uint64_t before = neomm_pmm_free_frames(memory_root());
    neomm_frame_t frame[NEOMM_ORDER_MAX + 1];
    uint64_t taken = 0;
    for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++) {
        ASSERT_OK(t, neomm_pmm_alloc(memory_root(), order, 0, &frame[order]));
        EXPECT_EQ(t, frame[order].number & ((1u << order) - 1), 0);
        taken += 1u << order;
        EXPECT_EQ(t, neomm_pmm_free_frames(memory_root()), before - taken);
    }
    for (unsigned order = 0; order <= NEOMM_ORDER_MAX; order++)
        EXPECT_OK(t, neomm_pmm_free(memory_root(), frame[order], order));
    EXPECT_EQ(t, neomm_pmm_free(memory_root(), frame[0], 0), NEOMM_E_DOUBLE_FREE);
    EXPECT_EQ(t, neomm_pmm_free_frames(memory_root()), before);
}

/* Each frame keeps what was written to it, those above the direct map too. */
static void frame_contents(struct ktap *t)
{
    neomm_frame_t frame[32];
    ASSERT_OK(t, neomm_pmm_alloc_bulk(memory_root(), 32, NEOMM_HIGH, frame));
    for (unsigned i = 0; i < 32; i++) {
        uint32_t *words = neomm_frame_map(memory_root(), frame[i]);
        ASSERT(t, words);
        for (unsigned j = 0; j < PAGE / 4; j++)
            words[j] = i << 16 | j;
        neomm_frame_unmap(memory_root(), words);
    }
    for (unsigned i = 0; i < 32; i++) {
        uint32_t *words = neomm_frame_map(memory_root(), frame[i]);
        ASSERT(t, words);
        for (unsigned j = 0; j < PAGE / 4; j++)
            EXPECT_EQ(t, words[j], i << 16 | j);
        neomm_frame_unmap(memory_root(), words);
    }
    EXPECT_OK(t, neomm_pmm_free_bulk(memory_root(), 32, frame, NULL));
}

/* Memory below and above the direct map's end is good, read past the CPU's caches. */
static void memory_test(struct ktap *t)
{
    static const neomm_flags_t flags[] = {NEOMM_DMA, 0, NEOMM_HIGH};
    for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        const struct neomm_range_request request = {.frames = 16, .flags = flags[i]};
        struct neomm_memtest_result result;
        neomm_frame_t first;
        ASSERT_OK(t, neomm_pmm_alloc_range(memory_root(), &request, &first));
        EXPECT_OK(t, neomm_pmm_memtest(memory_root(), first, 16, NEOMM_MEMTEST_ALL, &result));
        EXPECT_EQ(t, result.frames, 0);
        EXPECT_OK(t, neomm_pmm_free_range(memory_root(), first, 16));
    }
}

static bool filled(const unsigned char *block, size_t size, unsigned char byte)
{
    for (size_t i = 0; i < size; i++)
        if (block[i] != byte)
            return false;
    return true;
}

static void fill(unsigned char *block, size_t size, unsigned char byte)
{
    for (size_t i = 0; i < size; i++)
        block[i] = byte;
}

static void heap(struct ktap *t)
{
    enum { BLOCKS = 64 };
    unsigned char *block[BLOCKS];
    uint64_t before = free_frames();
    for (unsigned i = 0; i < BLOCKS; i++) {
        block[i] = neomm_kmalloc(memory_root(), 1 + i * i * 3, 0);
        ASSERT(t, block[i]);
        fill(block[i], 1 + i * i * 3, (unsigned char)i);
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        EXPECT(t, filled(block[i], 1 + i * i * 3, (unsigned char)i));
    unsigned char *larger = neomm_krealloc(memory_root(), block[5], 100000, 0);
    ASSERT(t, larger);
    EXPECT(t, filled(larger, 1 + 5 * 5 * 3, 5));
    block[5] = larger;
    for (unsigned i = 0; i < BLOCKS; i++)
        EXPECT_OK(t, neomm_kfree(memory_root(), block[i]));
    EXPECT_EQ(t, free_frames(), before);
}

/* Volatile: it changes in the handler of a fault. */
static volatile struct {
    unsigned count;
    enum neomm_heap_error error;
    ptrdiff_t offset;
} found;

static void note_report(void *context, const struct neomm_heap_report *report)
{
    (void)context;
    found.count++;
    found.error = report->error;
    found.offset = report->offset;
}

/* Guarded objects, touched where they must not be: the fault is reported, and the instruction runs
 * again. */
static void guarded_objects(struct ktap *t)
{
    struct neomm *root = memory_root();
    struct neomm_kmem *cache = neomm_kmem_for(root, 64);
    volatile uintptr_t block = 0;
    neomm_heap_on_error(root, note_report, NULL);
    ASSERT_OK(t, neomm_heap_set_sampling(root, 1));
    ASSERT_OK(t, neomm_heap_set_profile(root, cache, NEOMM_HEAP_GUARDED));
    for (unsigned i = 0; i < 4 && !neomm_window_vaddr(root, (void *)block); i++) {
        (void)neomm_kfree(root, (void *)block);
        block = (uintptr_t)neomm_kmalloc(root, 64, 0);
    }
    ASSERT(t, neomm_window_vaddr(root, (void *)block) != 0);
    ptrdiff_t beside = block % PAGE == 0 ? -1 : 64;
    *(volatile unsigned char *)(block + (uintptr_t)beside) = 1;
    EXPECT(t, found.count == 1 && found.error == NEOMM_HEAP_ACCESS_OUTSIDE);
    EXPECT_EQ(t, found.offset, beside);
    EXPECT_OK(t, neomm_kfree(root, (void *)block));
    neomm_heap_settle(root);
    (void)*(volatile unsigned char *)(block + 3);
    EXPECT(t, found.count == 2 && found.error == NEOMM_HEAP_ACCESS_AFTER_FREE);
    EXPECT_EQ(t, found.offset, 3);
    EXPECT_OK(t, neomm_heap_set_profile(root, cache, NEOMM_HEAP_DEFAULT));
    neomm_heap_on_error(root, NULL, NULL);
}

static void window(struct ktap *t)
{
    uint64_t before = free_frames();
    unsigned char *block = neomm_valloc(memory_root(), 5 * PAGE, RW);
    ASSERT(t, block);
    fill(block, 5 * PAGE, 0xc3);
    EXPECT(t, filled(block, 5 * PAGE, 0xc3));
    EXPECT(t, !neomm_valloc(memory_root(), PAGE, RW | NEOMM_PROT_EXEC));
    EXPECT_OK(t, neomm_vfree(memory_root(), block));
    EXPECT_EQ(t, neomm_vfree(memory_root(), block), NEOMM_E_NOENT);
    EXPECT_EQ(t, free_frames(), before);
}

/* First touches in user mode: a page fault for each page, resolved with zeros. */
static void user_fault(struct ktap *t)
{
    free_before = free_frames();
    ASSERT_OK(t, program_start(&program, DATA_PAGES, NULL));
    uint64_t zero = stats_of(&program).faults_zero;
    struct user_end end = run(&program, user_load, program.data + 4, 0, 0);
    EXPECT(t, end.exited);
    EXPECT_EQ(t, end.code, 0);
    EXPECT(t, end.faults >= 1);
    end = run(&program, user_fill, program.data, DATA_PAGES, SEED);
    EXPECT(t, end.exited);
    EXPECT_EQ(t, end.code, 0);
    EXPECT_EQ(t, stats_of(&program).faults_zero - zero, DATA_PAGES);
    end = run(&program, user_check, program.data, DATA_PAGES, SEED + 1);
    EXPECT_EQ(t, end.code, 2 * DATA_PAGES);
}

static void user_output(struct ktap *t)
{
    static const char text[] = "# hello from user mode\n";
    ASSERT(t, program.space);
    ASSERT_OK(t, neomm_copy_to_user(memory_root(), program.space, program.stack, text,
                                    sizeof(text) - 1, NULL));
    struct user_end end = run(&program, user_print, program.stack, sizeof(text) - 1, 0);
    EXPECT(t, end.exited);
    EXPECT_EQ(t, end.code, NEOMM_OK);
}

/* Pages go to the disk and come back with what user code wrote. */
static void swap_out_and_in(struct ktap *t)
{
    ASSERT(t, program.space);
    struct neomm_space_stats before = stats_of(&program);
    uint64_t back_before = pages_back(&program);
    EXPECT_EQ(t, neomm_space_evict(memory_root(), program.space, 1), 1);
    EXPECT_EQ(t, stats_of(&program).evictions, before.evictions + 1);
    EXPECT_EQ(t, stats_of(&program).resident_bytes, before.resident_bytes - PAGE);
    EXPECT(t, neomm_space_evict(memory_root(), program.space, 100) >= DATA_PAGES);
    EXPECT_EQ(t, stats_of(&program).resident_bytes, 0);
    struct user_end end = run(&program, user_check, program.data, DATA_PAGES, SEED);
    EXPECT(t, end.exited);
    EXPECT_EQ(t, end.code, 0);
    EXPECT(t, pages_back(&program) - back_before >= DATA_PAGES + 1);
}

/* More pages than may be resident: every access to another page is a fault of some kind. */
static void resident_limit(struct ktap *t)
{
    enum { PAGES = 40, RESIDENT = 8 };
    const struct neomm_limits limits = {NEOMM_UNLIMITED, RESIDENT * PAGE, NEOMM_UNLIMITED,
                                        NEOMM_UNLIMITED};
    struct program other;
    struct program *p = &other;
    ASSERT_OK(t, program_start(p, PAGES, &limits));
    struct user_end end = run(p, user_fill, p->data, PAGES, SEED);
    EXPECT(t, end.exited);
    EXPECT_EQ(t, end.code, 0);
    EXPECT(t, stats_of(p).resident_bytes <= RESIDENT * PAGE);
    EXPECT(t, stats_of(p).swap_writes >= PAGES - RESIDENT);
    EXPECT(t, pages_back(p) >= PAGES - RESIDENT);
    end = run(p, user_check, p->data, PAGES, SEED);
    EXPECT_EQ(t, end.code, 0);
    EXPECT_OK(t, program_end(p));
    user_set_space(program.space);
}

/* Two spaces map different contents at the same addresses. */
static void two_spaces(struct ktap *t)
{
    struct program other;
    ASSERT(t, program.space);
    ASSERT_OK(t, program_start(&other, DATA_PAGES, NULL));
    EXPECT_EQ(t, other.data, program.data);
    EXPECT_EQ(t, run(&other, user_fill, other.data, DATA_PAGES, SEED + 7).code, 0);
    user_set_space(program.space);
    EXPECT_EQ(t, run(&program, user_check, program.data, DATA_PAGES, SEED).code, 0);
    user_set_space(other.space);
    EXPECT_EQ(t, run(&other, user_check, other.data, DATA_PAGES, SEED + 7).code, 0);
    EXPECT_OK(t, program_end(&other));
    user_set_space(program.space);
}

/* A pointer that user code made up costs it an error, and the kernel nothing. */
static void bad_pointers(struct ktap *t)
{
    char buffer[2 * PAGE];
    size_t done = 1;
    ASSERT(t, program.space);
    neomm_vaddr_t hole = program.data, limit = neomm_layout_of(memory_root())->user_limit;
    ASSERT_OK(t, neomm_mmap(memory_root(), program.space, &hole, 2 * PAGE, RW, 0));
    ASSERT_OK(t, neomm_munmap(memory_root(), program.space, hole + PAGE, PAGE));
    unsigned fixups = trap_fixups();
    EXPECT_EQ(t, neomm_cpu_user_copy(hole + PAGE, buffer, 16, false), 16);
    EXPECT_EQ(t, trap_fixups(), fixups + 1);
    EXPECT_EQ(t, neomm_copy_from_user(memory_root(), program.space, buffer, hole + PAGE, 8, &done),
              NEOMM_E_FAULT);
    EXPECT_EQ(t, done, 0);
    EXPECT_EQ(t, neomm_copy_from_user(memory_root(), program.space, buffer, hole, 2 * PAGE, &done),
              NEOMM_E_FAULT);
    EXPECT_EQ(t, done, PAGE);
    EXPECT_EQ(t, neomm_copy_to_user(memory_root(), program.space, program.code, buffer, 8, &done),
              NEOMM_E_FAULT);
    EXPECT(t, neomm_copy_from_user(memory_root(), program.space, buffer, limit - 8, 16, &done) !=
                  NEOMM_OK);
    EXPECT(t, neomm_copy_to_user(memory_root(), program.space, (neomm_vaddr_t)image_data, buffer, 8,
                                 &done) != NEOMM_OK);
    struct user_end end = run(&program, user_print, hole + PAGE, 8, 0);
    EXPECT(t, end.exited);
    EXPECT_EQ(t, (intptr_t)end.code, NEOMM_E_FAULT);
    EXPECT_OK(t, neomm_munmap(memory_root(), program.space, hole, PAGE));
}

static void expect_fault(struct ktap *t, const char *function, neomm_vaddr_t address,
                         enum neomm_fault_outcome outcome)
{
    struct user_end end = run(&program, function, address, 0, 0);
    EXPECT(t, !end.exited);
    EXPECT_EQ(t, end.vector, VECTOR_PAGE_FAULT);
    EXPECT_EQ(t, end.address, address);
    EXPECT_EQ(t, end.outcome, outcome);
}

static bool format_has_nx(void)
{
    uint32_t out[4];
    neomm_cpu_cpuid(0x80000001, 0, out);
    return boot_format() != NEOMM_FORMAT_2LEVEL && out[3] & CPUID_81_EDX_NX;
}

/* What user code may not do ends the program, and nothing else. */
static void user_errors(struct ktap *t)
{
    ASSERT(t, program.space);
    neomm_vaddr_t absent = program.data;
    ASSERT_OK(t, neomm_mmap(memory_root(), program.space, &absent, PAGE, RW, 0));
    ASSERT_OK(t, neomm_munmap(memory_root(), program.space, absent, PAGE));
    expect_fault(t, user_load, absent, NEOMM_FAULT_SEGV);
    expect_fault(t, user_store, absent, NEOMM_FAULT_SEGV);
    expect_fault(t, user_load, 0, NEOMM_FAULT_SEGV);
    expect_fault(t, user_store, program.code, NEOMM_FAULT_ACCESS);
    if (format_has_nx())
        expect_fault(t, user_jump, program.data, NEOMM_FAULT_ACCESS);
    struct user_end end = run(&program, user_load, (uintptr_t)image_data, 0, 0);
    EXPECT(t, !end.exited);
    EXPECT(t, end.outcome == NEOMM_FAULT_SEGV || end.outcome == NEOMM_FAULT_ACCESS);
    end = run(&program, user_halt, 0, 0, 0);
    EXPECT(t, !end.exited);
    EXPECT_EQ(t, end.vector, VECTOR_PROTECTION);
    EXPECT_EQ(t, run(&program, user_check, program.data, DATA_PAGES, SEED).code, 0);
}

/* What was reachable through the TLB a moment ago is not any more. */
static void invalidations(struct ktap *t)
{
    ASSERT(t, program.space);
    neomm_vaddr_t at = program.data;
    ASSERT_OK(t, neomm_mmap(memory_root(), program.space, &at, 2 * PAGE, RW, 0));
    EXPECT_EQ(t, run(&program, user_fill, at, 2, SEED).code, 0);
    EXPECT_OK(t, neomm_mprotect(memory_root(), program.space, at, PAGE, NEOMM_PROT_READ));
    EXPECT(t, run(&program, user_load, at, 0, 0).exited);
    expect_fault(t, user_store, at, NEOMM_FAULT_ACCESS);
    EXPECT_OK(t, neomm_mprotect(memory_root(), program.space, at, PAGE, RW));
    EXPECT(t, run(&program, user_store, at, 1, 0).exited);
    EXPECT_OK(t, neomm_munmap(memory_root(), program.space, at, 2 * PAGE));
    expect_fault(t, user_load, at, NEOMM_FAULT_SEGV);
    expect_fault(t, user_store, at + PAGE, NEOMM_FAULT_SEGV);
}

static bool can_access(const void *pointer, bool write)
{
    uint8_t byte;
    if (neomm_cpu_user_copy((neomm_vaddr_t)pointer, &byte, 1, false) != 0)
        return false;
    return !write || neomm_cpu_user_copy((neomm_vaddr_t)pointer, &byte, 1, true) == 0;
}

/* The parts of the image have their rights, and nothing of the boot's is left. */
static void kernel_rights(struct ktap *t)
{
    const char *direct = neomm_direct_pointer(memory_root(), 0);
    user_set_space(NULL);
    EXPECT(t, can_access(image_text, false));
    EXPECT(t, !can_access(image_text, true));
    EXPECT(t, can_access(image_rodata, false));
    EXPECT(t, !can_access(image_rodata, true));
    EXPECT(t, can_access(image_data, true));
    EXPECT(t, can_access(image_stack, true));
    EXPECT(t, !can_access(image_data_end, false));
    EXPECT(t, !can_access(direct + image_physical(image_text), true));
    EXPECT(t, !can_access((const void *)(uintptr_t)image_physical(image_text), false));
    user_set_space(program.space);
}

static void *direct_pointer(void *context, neomm_paddr_t table)
{
    (void)context;
    return neomm_direct_pointer(memory_root(), table);
}

static void count_leaf(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    unsigned *count = context;
    (void)vaddr;
    (void)leaf;
    ++*count;
}

/* In the tables that the CPU goes by nothing is mapped where boot.S had the identity map, and of
 * the image, which was mapped there too, only what the kernel has asked for. */
static void identity_map_is_gone(struct ktap *t)
{
    struct neomm_handover loaded;
    unsigned leaves = 0;
    user_set_space(NULL);
    ASSERT_OK(t, neomm_handover_begin(&loaded, direct_pointer, NULL));
    EXPECT_EQ(t, loaded.format, boot_format());
    EXPECT_OK(t, neomm_handover_walk(&loaded, 0, neomm_layout_of(memory_root())->user_limit,
                                     count_leaf, &leaves));
    EXPECT_EQ(t, leaves, 0);
    EXPECT_OK(t, neomm_handover_walk(&loaded, (neomm_vaddr_t)image_text,
                                     (size_t)(image_data_end - image_text), count_leaf, &leaves));
    EXPECT(t, leaves != 0);
    EXPECT(t, !can_access((const void *)(uintptr_t)image_physical(image_data), false));
    user_set_space(program.space);
}

/* Whatever protection the CPU offers is on. */
static void cpu_features(struct ktap *t)
{
    uint32_t basic[4], top[4], extended[4] = {0};
    uintptr_t cr4 = neomm_cpu_read_cr4();
    neomm_cpu_cpuid(0, 0, top);
    neomm_cpu_cpuid(1, 0, basic);
    if (top[0] >= 7)
        neomm_cpu_cpuid(7, 0, extended);
    EXPECT(t, neomm_cpu_read_cr0() & NEOMM_CR0_WP);
    EXPECT_EQ(t, (cr4 & NEOMM_CR4_PGE) != 0, basic[3] >> 13 & 1);
    EXPECT_EQ(t, (cr4 & NEOMM_CR4_SMEP) != 0, extended[1] >> 7 & 1);
    EXPECT_EQ(t, (cr4 & NEOMM_CR4_SMAP) != 0, extended[1] >> 20 & 1);
    EXPECT_EQ(t, (cr4 & NEOMM_CR4_UMIP) != 0, extended[2] >> 2 & 1);
    if (format_has_nx())
        EXPECT(t, neomm_cpu_read_msr(NEOMM_MSR_EFER) & NEOMM_EFER_NXE);
}

/* With nothing to do the CPU halts, and is fully awake again when the timer says so. The machine
 * may stand still for some milliseconds at any time. */
static void idle(struct ktap *t)
{
    const uint64_t wait = 100000000; /* ns */
    uint32_t word = 1;
    unsigned before = port_idles();
    uint64_t start = neomm_port_now();
    EXPECT_EQ(t, neomm_port_wait(&word, 1, wait), NEOMM_E_TIMEOUT);
    EXPECT(t, neomm_port_now() - start >= wait);
    EXPECT(t, port_idles() > before);
    neomm_irq_t irq = neomm_port_irq_save();
    EXPECT(t, irq != 0);
    neomm_port_irq_restore(irq);
}

/* Takes frames in the largest blocks until few are left outside smaller ones. */
static uint32_t take_frames(neomm_frame_t *block, uint32_t most)
{
    const uint64_t enough = 4u << NEOMM_ORDER_MAX;
    uint32_t taken = 0;
    while (taken < most && neomm_pmm_free_frames(memory_root()) > enough &&
           neomm_pmm_alloc(memory_root(), NEOMM_ORDER_MAX, NEOMM_HIGH | NEOMM_NORECLAIM,
                           &block[taken]) == NEOMM_OK)
        taken++;
    return taken;
}

/* A program that wants more than memory and swap have is ended; the others go on. */
static void out_of_memory(struct ktap *t)
{
    static neomm_frame_t block[2048];
    struct program greedy;
    uint32_t taken = take_frames(block, sizeof(block) / sizeof(block[0]));
    uint32_t pages = (uint32_t)neomm_pmm_free_frames(memory_root()) + 2 * SWAP_PAGES;
    ASSERT_OK(t, program_start(&greedy, pages, NULL));
    struct user_end end = run(&greedy, user_fill, greedy.data, pages, SEED);
    EXPECT(t, !end.exited);
    EXPECT(t, end.killed || end.outcome == NEOMM_FAULT_NOMEM);
    EXPECT(t, stats_of(&greedy).evictions > SWAP_PAGES / 2);
    EXPECT_EQ(t, stats_of(&greedy).oom_victim, 1);
    EXPECT_EQ(t, stats_of(&greedy).resident_bytes + stats_of(&greedy).swap_bytes, 0);
    EXPECT_OK(t, program_end(&greedy));
    for (uint32_t i = 0; i < taken; i++)
        EXPECT_OK(t, neomm_pmm_free(memory_root(), block[i], NEOMM_ORDER_MAX));
    user_set_space(program.space);
    EXPECT_EQ(t, run(&program, user_check, program.data, DATA_PAGES, SEED).code, 0);
}

static void consistency(struct ktap *t)
{
    EXPECT_EQ(t, neomm_fsck(memory_root(), fsck_line, t), 0);
}

static void space_exit(struct ktap *t)
{
    ASSERT(t, program.space);
    EXPECT_OK(t, program_end(&program));
    EXPECT_EQ(t, free_frames(), free_before);
    struct neomm_swap_stats swap;
    neomm_swap_stats(memory_root(), &swap);
    EXPECT_EQ(t, swap.used, 0);
    EXPECT_EQ(t, neomm_fsck(memory_root(), fsck_line, t), 0);
}

static void memstat(struct ktap *t)
{
    (void)t;
    memory_report();
}

static void shut_down(struct ktap *t)
{
    EXPECT(t, memory_stop());
    EXPECT_EQ(t, neomm_fsck(memory_root(), fsck_line, t), 0);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(cpu_features),
    KTAP_CASE(idle),
    KTAP_CASE(frames),
    KTAP_CASE(frame_contents),
    KTAP_CASE(memory_test),
    KTAP_CASE(heap),
    KTAP_CASE(guarded_objects),
    KTAP_CASE(window),
    KTAP_CASE(user_fault),
    KTAP_CASE(kernel_rights),
    KTAP_CASE(identity_map_is_gone),
    KTAP_CASE(user_output),
    KTAP_CASE(swap_out_and_in),
    KTAP_CASE(resident_limit),
    KTAP_CASE(two_spaces),
    KTAP_CASE(bad_pointers),
    KTAP_CASE(user_errors),
    KTAP_CASE(invalidations),
    KTAP_CASE(out_of_memory),
    KTAP_CASE(consistency),
    KTAP_CASE(space_exit),
    KTAP_CASE(memstat),
    KTAP_CASE(shut_down),
};

KTAP_SUITE(boot, cases);
