/* Tests of the simulated machine: RAM, snapshots, windows, CPU, fault plan, ends, environments.
 * SPDX-License-Identifier: MIT */
#include "bare_machine.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t random_state;

static uint64_t next_random(void)
{
    uint64_t x = random_state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* ---- RAM ---- */

static void ram_bytes(struct ktap *t)
{
    uint8_t *model = calloc(1, MIB), buffer[12000];
    struct sim *sim = bare_machine(t, MIB, 1, 1);
    ASSERT(t, sim && model);
    random_state = 1;
    for (int i = 0; i < 3000; i++) {
        size_t size = (size_t)(next_random() % sizeof(buffer));
        size_t at = (size_t)(next_random() % (MIB - size + 1));
        if (next_random() & 1) {
            memset(buffer, (int)(next_random() & 0xff), size);
            memcpy(model + at, buffer, size);
            EXPECT(t, sim_physical_write(sim, at, buffer, size));
        } else {
            EXPECT(t, sim_physical_read(sim, at, buffer, size));
            EXPECT(t, memcmp(buffer, model + at, size) == 0);
        }
    }
    EXPECT(t, !sim_physical_read(sim, MIB - 1, buffer, 2));
    EXPECT(t, !sim_physical_write(sim, MIB, buffer, 1));
    EXPECT(t, !sim_physical_read(sim, UINT64_MAX, buffer, 1));
    EXPECT(t, sim_physical_read(sim, MIB, buffer, 0));
    sim_destroy(sim);
    free(model);
}

/* The thread sanitizer maps more for each mapped byte. */
#if defined(__SANITIZE_THREAD__)
#define HUGE_64BIT ((uint64_t)64 << 30)
#else
#define HUGE_64BIT ((uint64_t)8 << 40)
#endif

/* RAM that no host has: only touched pages cost anything. */
static void ram_huge(struct ktap *t)
{
    uint64_t ram = sizeof(void *) == 8 ? HUGE_64BIT : (uint64_t)12 << 30;
    struct sim *sim = bare_machine(t, ram, 1, 1);
    ASSERT(t, sim);
    for (uint64_t at = 0; at < ram; at += ram / 64) {
        uint64_t value = at * 3 + 1, back = 0;
        EXPECT(t, sim_physical_write(sim, at + 4090, &value, sizeof(value)));
        EXPECT(t, sim_physical_read(sim, at + 4090, &back, sizeof(back)));
        EXPECT_EQ(t, back, value);
    }
    EXPECT(t, sim_physical_write(sim, ram - 1, "x", 1));
    sim_destroy(sim);
}

static void ram_image(struct ktap *t)
{
    struct neomm_boot_range first, second;
    struct sim *sim = bare_machine(t, 4 * MIB, 1, 1);
    uint32_t value = 0;
    ASSERT(t, sim);
    uint32_t *one = sim_image(sim, 5000, &first), *two = sim_image(sim, 1, &second);
    ASSERT(t, one && two);
    EXPECT_EQ(t, first.base, MIB);
    EXPECT_EQ(t, first.length, 8192);
    EXPECT_EQ(t, second.base, MIB + 8192);
    EXPECT_EQ(t, second.type, NEOMM_MEMORY_KERNEL);
    *two = 0x600df00d;
    EXPECT(t, sim_physical_read(sim, second.base, &value, sizeof(value)));
    EXPECT_EQ(t, value, 0x600df00d);
    EXPECT(t, sim_image(sim, 4 * MIB, &first) == NULL);
    sim_destroy(sim);
}

#if NEOMM_INSTRUMENTED

static void ram_poison(struct ktap *t)
{
    struct sim *sim = bare_machine(t, 4 * MIB, 1, 1);
    uint64_t word = 0, other = 1;
    ASSERT(t, sim);
    EXPECT(t, sim_physical_write(sim, 0x9000, &other, sizeof(other)));
    neomm_hook_frames_allocated(neomm_frame(9), 1);
    EXPECT(t, sim_physical_read(sim, 0x9000, &word, sizeof(word)));
    EXPECT(t, word != other && word != 0);
    EXPECT(t, sim_physical_write(sim, 0x9ff8, &other, sizeof(other)));
    neomm_hook_frames_freed(neomm_frame(9), 1);
    EXPECT(t, sim_physical_read(sim, 0x9ff8, &other, sizeof(other)));
    EXPECT_EQ(t, other, word);
    neomm_hook_frames_allocated(neomm_frame(9), 1);
    EXPECT_EQ(t, sim_violations(sim), 0);
    /* A write behind the back of the allocator, found when the frame is handed out again. */
    neomm_hook_frames_freed(neomm_frame(8), 4);
    EXPECT(t, sim_physical_write(sim, 0xa123, "x", 1));
    neomm_hook_frames_allocated(neomm_frame(8), 2);
    EXPECT_EQ(t, sim_violations(sim), 0);
    neomm_hook_frames_allocated(neomm_frame(10), 2);
    EXPECT(t, violated(sim, 0, "frame 0xa was written to while it was free: offset 0x120"));
    neomm_hook_frames_freed(neomm_frame(0x400), 1);
    EXPECT(t, violated(sim, 1, "not RAM"));
    sim_destroy(sim);
}

#endif

/* ---- snapshots ---- */

static void scribble(struct sim *sim, uint64_t ram, int count)
{
    for (int i = 0; i < count; i++) {
        uint64_t value = next_random();
        (void)sim_physical_write(sim, next_random() % (ram - 8), &value, sizeof(value));
    }
}

static void snapshots(struct ktap *t)
{
    const size_t ram = 8 * MIB;
    uint8_t *then = malloc(ram), *now = malloc(ram);
    struct sim *sim = bare_machine(t, ram, 2, 1);
    ASSERT(t, sim && then && now);
    random_state = t->parameter;
    scribble(sim, ram, (int)t->parameter * 100);
    neomm_cpu_write_cr4(neomm_cpu_read_cr4() | NEOMM_CR4_UMIP);
    uintptr_t cr4 = neomm_cpu_read_cr4();
    struct sim_snapshot *snapshot = sim_snapshot_take(sim);
    ASSERT(t, snapshot && sim_physical_read(sim, 0, then, ram));
    for (int round = 0; round < 3; round++) {
        neomm_cpu_write_cr4(neomm_cpu_read_cr4() & ~NEOMM_CR4_UMIP);
        neomm_irq_t irq = neomm_port_irq_save();
        scribble(sim, ram, 300);
        sim_snapshot_restore(sim, snapshot);
        EXPECT(t, sim_physical_read(sim, 0, now, ram));
        EXPECT(t, memcmp(then, now, ram) == 0);
        EXPECT_EQ(t, neomm_cpu_read_cr4(), cr4);
        EXPECT(t, !sim_interrupts_masked());
        (void)irq;
    }
    EXPECT_EQ(t, sim_check_end(sim), 0);
    sim_snapshot_free(snapshot);
    sim_destroy(sim);
    free(then);
    free(now);
}

static const uint64_t sizes[] = {0, 1, 5};

/* A whole system goes back in time with its machine. */
static void snapshot_of_system(struct ktap *t)
{
    struct env env;
    struct env_options options = {.layer = ENV_PMM, .format = (enum neomm_format)t->parameter};
    neomm_frame_t first, again, other;
    ASSERT(t, env_open(t, &env, &options));
    struct sim_snapshot *snapshot = sim_snapshot_take(env.machine);
    ASSERT(t, snapshot);
    uint64_t free_frames = neomm_pmm_free_frames(env.root);
    EXPECT_OK(t, neomm_pmm_alloc(env.root, 3, 0, &first));
    EXPECT_OK(t, neomm_pmm_alloc(env.root, 0, NEOMM_ZERO, &other));
    sim_snapshot_restore(env.machine, snapshot);
    EXPECT_EQ(t, neomm_pmm_free_frames(env.root), free_frames);
    env_fsck(t, &env);
    EXPECT_OK(t, neomm_pmm_alloc(env.root, 3, 0, &again));
    EXPECT_EQ(t, again.number, first.number);
    EXPECT_OK(t, neomm_pmm_free(env.root, again, 3));
    sim_snapshot_free(snapshot);
    env_close(t, &env);
}

/* ---- windows ---- */

struct poke {
    volatile uint8_t *at;
    uint8_t value;
    bool write;
};

static void poke(void *argument)
{
    struct poke *poke = argument;
    if (poke->write)
        *poke->at = poke->value;
    else
        poke->value = *poke->at;
}

static enum sim_end try_poke(struct env *env, void *at, bool write, uint8_t *value)
{
    char text[128];
    struct poke p = {at, *value, write};
    enum sim_end end = sim_catch(env->machine, poke, &p, text, sizeof(text));
    *value = p.value;
    return end;
}

static void window_pointers(struct ktap *t)
{
    struct env env;
    struct env_options options = {.layer = ENV_PAGING, .format = (enum neomm_format)t->parameter};
    struct neomm_tables *kernel;
    neomm_frame_t frame;
    neomm_vaddr_t vaddr;
    uint8_t value = 0, stored = 0;
    ASSERT(t, env_open(t, &env, &options));
    kernel = neomm_paging_kernel(env.root);
    ASSERT_OK(t, neomm_pmm_alloc(env.root, 0, 0, &frame));
    ASSERT_OK(t, neomm_window_alloc(env.root, NEOMM_PAGE_SIZE, &vaddr));
    uint8_t *at = neomm_window_pointer(env.root, vaddr);
    EXPECT_EQ(t, try_poke(&env, at, false, &value), SIM_END_FAULT);
    EXPECT_OK(t, neomm_paging_map_frames(env.root, kernel, vaddr, &frame, 1,
                                         NEOMM_PROT_READ | NEOMM_PROT_WRITE));
    value = 0x5a;
    EXPECT_EQ(t, try_poke(&env, at + 77, true, &value), SIM_END_RETURN);
    EXPECT(t, sim_physical_read(env.machine, neomm_frame_paddr(frame) + 77, &stored, 1));
    EXPECT_EQ(t, stored, 0x5a);
    EXPECT_OK(t, neomm_paging_protect(env.root, kernel, vaddr, NEOMM_PAGE_SIZE, NEOMM_PROT_READ));
    EXPECT_EQ(t, try_poke(&env, at + 77, false, &value), SIM_END_RETURN);
    EXPECT_EQ(t, try_poke(&env, at + 77, true, &value), SIM_END_FAULT);
    EXPECT_EQ(t, try_poke(&env, at + NEOMM_PAGE_SIZE, false, &value), SIM_END_FAULT);
    EXPECT_OK(t, neomm_paging_unmap(env.root, kernel, vaddr, NEOMM_PAGE_SIZE, NULL, NULL, NULL));
    EXPECT_EQ(t, try_poke(&env, at + 77, false, &value), SIM_END_FAULT);
    EXPECT_OK(t, neomm_window_free(env.root, vaddr));
    EXPECT_OK(t, neomm_pmm_free(env.root, frame, 0));
    env_close(t, &env);
}

/* ---- CPU ---- */

static void cpu_features(struct ktap *t)
{
    static const struct {
        uint32_t absent, leaf, word, bit;
    } feature[] = {{SIM_NO_PSE, 1, 3, 3},  {SIM_NO_PGE, 1, 3, 13},
                   {SIM_NO_SMEP, 7, 1, 7}, {SIM_NO_SMAP, 7, 1, 20},
                   {SIM_NO_UMIP, 7, 2, 2}, {SIM_NO_NX, 0x80000001u, 3, 20}};
    for (uint32_t absent = 0; absent < 128; absent++) {
        const struct sim_options options = {.format = (enum neomm_format)formats[1],
                                            .ram_bytes = MIB,
                                            .absent = absent,
                                            .physical_bits = 36};
        struct sim *sim = sim_create(&options);
        uint32_t out[4];
        ASSERT(t, sim);
        for (unsigned i = 0; i < 6; i++) {
            neomm_cpu_cpuid(feature[i].leaf, 0, out);
            EXPECT_EQ(t, out[feature[i].word] >> feature[i].bit & 1, !(absent & feature[i].absent));
        }
        neomm_cpu_cpuid(0x80000008u, 0, out);
        EXPECT_EQ(t, out[0] & 0xff, 36);
        neomm_cpu_cpuid(7, 1, out);
        EXPECT_EQ(t, out[0] | out[1] | out[2] | out[3], 0);
        sim_destroy(sim);
    }
}

static void cpu_registers(struct ktap *t)
{
    const struct sim_options options = {.format = (enum neomm_format)formats[1],
                                        .ram_bytes = MIB,
                                        .cpus = 2,
                                        .absent = SIM_NO_SMEP | SIM_NO_NX,
                                        .keep_going = true};
    struct sim *sim = sim_create(&options);
    ASSERT(t, sim);
    neomm_cpu_write_cr4(neomm_cpu_read_cr4() | NEOMM_CR4_PGE);
    neomm_cpu_write_cr0(neomm_cpu_read_cr0() | NEOMM_CR0_WP);
    neomm_cpu_write_msr(NEOMM_MSR_PAT, 0x0107040600070406u);
    EXPECT_EQ(t, neomm_cpu_read_msr(NEOMM_MSR_PAT), 0x0107040600070406u);
    EXPECT(t, neomm_cpu_read_cr0() & NEOMM_CR0_WP);
    sim_bind(sim, 1);
    EXPECT(t, !(neomm_cpu_read_cr4() & NEOMM_CR4_PGE) && !(neomm_cpu_read_cr0() & NEOMM_CR0_WP));
    EXPECT_EQ(t, sim_violations(sim), 0);
    neomm_cpu_write_cr4(neomm_cpu_read_cr4() | NEOMM_CR4_SMEP);
    EXPECT(t, violated(sim, 0, "CR4"));
    neomm_cpu_write_msr(NEOMM_MSR_EFER, neomm_cpu_read_msr(NEOMM_MSR_EFER) | NEOMM_EFER_NXE);
    EXPECT(t, violated(sim, 1, "EFER"));
    neomm_cpu_write_msr(NEOMM_MSR_PAT, 2);
    EXPECT(t, violated(sim, 2, "WRMSR"));
    neomm_cpu_write_msr(0x10, 0);
    EXPECT(t, violated(sim, 3, "WRMSR"));
    (void)neomm_cpu_read_msr(0x10);
    EXPECT(t, violated(sim, 4, "RDMSR"));
    neomm_cpu_write_cr0(NEOMM_CR0_PG);
    EXPECT(t, violated(sim, 5, "CR0"));
    sim_destroy(sim);
}

static void user_memory(struct ktap *t)
{
    struct env env;
    struct env_options options = {
        .layer = ENV_VMM, .format = (enum neomm_format)t->parameter, .swap_pages = 64};
    struct neomm_space *space;
    neomm_vaddr_t at = 0;
    char text[9000], back[9000];
    size_t length = 0;
    uint32_t expected = 0;
    ASSERT(t, env_open(t, &env, &options));
    ASSERT_OK(t, neomm_space_create(env.root, NULL, &space));
    ASSERT_OK(t, neomm_mmap(env.root, space, &at, 3 * NEOMM_PAGE_SIZE,
                            NEOMM_PROT_READ | NEOMM_PROT_WRITE, 0));
    neomm_space_activate(env.root, space);
    memset(text, 'a', sizeof(text));
    EXPECT_EQ(t, neomm_cpu_user_copy(at + 100, text, sizeof(text), true), 0);
    EXPECT_EQ(t, neomm_cpu_user_copy(at + 100, back, sizeof(back), false), 0);
    EXPECT(t, memcmp(text, back, sizeof(text)) == 0);
    EXPECT_OK(t, neomm_cpu_user_strlen(at + 100, 12000, &length));
    EXPECT_EQ(t, length, sizeof(text));
    EXPECT_OK(t, neomm_cpu_user_strlen(at + 100, 5000, &length));
    EXPECT_EQ(t, length, 5000);
    EXPECT_OK(t, neomm_cpu_user_cas(at, &expected, 5));
    EXPECT_EQ(t, neomm_cpu_user_cas(at, &expected, 6), NEOMM_E_AGAIN);
    EXPECT_EQ(t, expected, 5);
    /* Beyond the mapping: what was copied counts. */
    neomm_vaddr_t end = at + 3 * NEOMM_PAGE_SIZE;
    EXPECT_EQ(t, neomm_cpu_user_copy(end - 1000, text, 3000, true), 2000);
    EXPECT_EQ(t, neomm_cpu_user_cas(end, &expected, 6), NEOMM_E_FAULT);
    EXPECT_EQ(t, neomm_cpu_user_strlen(end - 10, 100, &length), NEOMM_E_FAULT);
    EXPECT_EQ(t, env_access(&env, space, at + 4090, text, 20, false, true), NEOMM_OK);
    EXPECT_EQ(t, env_access(&env, space, end - 4, text, 20, false, true), NEOMM_E_FAULT);
    EXPECT_EQ(t, env_access(&env, NULL, end, text, 1, false, true), NEOMM_E_FAULT);
    neomm_space_activate(env.root, NULL);
    EXPECT_OK(t, neomm_space_destroy(env.root, space));
    env_close(t, &env);
}

/* ---- fault points ---- */

#if NEOMM_INSTRUMENTED

static void make_faults(struct ktap *t)
{
    struct sim *sim = bare_machine(t, MIB, 1, 1);
    enum neomm_fault_site site = NEOMM_FAULT_SITE_HEAP_RUN;
    uint64_t passes = sim_fault_site_passes(site), failures = sim_fault_site_failures(site);
    uint64_t made = 0, failed = 0;
    ASSERT(t, sim);
    for (uint64_t nth = 0; nth <= 6; nth++) {
        for (int forever = 0; forever < 2; forever++) {
            sim_fault_plan(sim, nth, forever != 0);
            for (uint64_t i = 1; i <= 5; i++) {
                bool want = nth != 0 && (i == nth || (forever && i > nth));
                EXPECT_EQ(t, neomm_hook_fault(site), want);
                EXPECT_EQ(t, sim_fault_count(sim), i);
                made++;
                failed += want;
            }
        }
    }
    EXPECT_EQ(t, sim_fault_site_passes(site), passes + made);
    EXPECT_EQ(t, sim_fault_site_failures(site), failures + failed);
    EXPECT(t, strcmp(sim_fault_site_name(site), "HEAP_RUN") == 0);
    EXPECT(t, strcmp(sim_fault_site_name(NEOMM_FAULT_SITES), "?") == 0);
    sim_destroy(sim);
}

/* In a child that leaves no report behind: these failures are not the library's. */
static void fault_plan(struct ktap *t)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        make_faults(t);
        _exit(t->failures != 0);
    }
    ASSERT(t, pid > 0 && waitpid(pid, &status, 0) == pid);
    EXPECT_EQ(t, status, 0);
}

static void lock_hooks(struct ktap *t)
{
    struct sim *sim = bare_machine(t, MIB, 1, 1);
    ASSERT(t, sim);
    neomm_hook_unlocked(NEOMM_LOCK_CLASS_PMM);
    EXPECT(t, violated(sim, 0, "more often"));
    neomm_hook_locked(NEOMM_LOCK_CLASS_PMM);
    EXPECT(t, violated(sim, 1, "interrupts on"));
    EXPECT(t, sim_check_end(sim) > 0);
    neomm_hook_unlocked(NEOMM_LOCK_CLASS_PMM);
    EXPECT_EQ(t, sim_check_end(sim), 0);
    EXPECT_EQ(t, sim_locks_most(sim), 1);
    sim_destroy(sim);
}

#endif

/* ---- ends ---- */

enum end { END_VIOLATION, END_PANIC, END_WINDOW, END_NULL, END_SPIN };

static void end_badly(enum end end)
{
    static const struct rlimit no_core = {0, 0};
    const struct sim_options options = {.format = (enum neomm_format)formats[0], .ram_bytes = MIB};
    struct sim *sim = sim_create(&options);
    struct neomm_layout layout;
    volatile uint8_t *volatile nowhere = NULL;
    (void)setrlimit(RLIMIT_CORE, &no_core);
    sim_layout(sim, &layout);
    neomm_port_log(NEOMM_LOG_WARNING, "the line before", 15);
    switch (end) {
    case END_VIOLATION:
        neomm_port_irq_restore(0);
        break;
    case END_PANIC:
        neomm_port_panic("the text");
    case END_WINDOW:
        *(volatile uint8_t *)(layout.window.base + (uintptr_t)layout.window.delta) = 1;
        break;
    case END_NULL:
        *nowhere = 1;
        break;
    case END_SPIN:
        for (;;)
            neomm_hook_spin();
    }
    _exit(0);
}

/* Runs it in a child; returns its status, and what it wrote to stderr. */
static int child_ends(enum end end, char *text, size_t size)
{
    int ends[2], status = -1;
    size_t used = 0;
    ssize_t got;
    if (pipe(ends) != 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(ends[1], STDERR_FILENO);
        end_badly(end);
    }
    (void)close(ends[1]);
    while (used + 1 < size && (got = read(ends[0], text + used, size - 1 - used)) > 0)
        used += (size_t)got;
    text[used] = '\0';
    (void)close(ends[0]);
    (void)waitpid(pid, &status, 0);
    return status;
}

static void bad_ends(struct ktap *t)
{
    char text[4096];
    int status = child_ends(END_VIOLATION, text, sizeof(text));
    EXPECT(t, WIFEXITED(status) && WEXITSTATUS(status) == 70);
    EXPECT(t, strstr(text, "sim: VIOLATION: port: interrupts restored out of order"));
    EXPECT(t, strstr(text, "sim: log: warning: the line before\n"));
    status = child_ends(END_PANIC, text, sizeof(text));
    EXPECT(t, !WIFEXITED(status) || WEXITSTATUS(status) != 0);
    EXPECT(t, strstr(text, "sim: PANIC: the text\n"));
    status = child_ends(END_WINDOW, text, sizeof(text));
    EXPECT(t, !WIFEXITED(status) || WEXITSTATUS(status) != 0);
    EXPECT(t, strstr(text, "sim: CRASH: kernel write at"));
    status = child_ends(END_NULL, text, sizeof(text));
    EXPECT(t, !WIFEXITED(status) || WEXITSTATUS(status) != 0);
    EXPECT(t, !strstr(text, "sim: "));
    status = child_ends(END_SPIN, text, sizeof(text));
    EXPECT(t, !WIFEXITED(status) || WEXITSTATUS(status) != 0);
    EXPECT(t, strstr(text, "spins for ever"));
}

/* ---- the environment of tests ---- */

/* RAM in two pieces, far apart, of odd sizes and at odd places. */
static void env_with_holes(struct ktap *t)
{
    uint64_t far = formats[0] == NEOMM_FORMAT_2LEVEL ? (uint64_t)700 << 20 : HUGE_64BIT / 8;
    const struct neomm_boot_range map[] = {
        {0x1234, 3 * MIB + 0x777, NEOMM_MEMORY_USABLE},
        {far + 0x123, 5 * MIB + 1, NEOMM_MEMORY_USABLE},
    };
    struct env env;
    struct env_options options = {.layer = ENV_PMM,
                                  .format = (enum neomm_format)formats[0],
                                  .ram_bytes = far + 6 * MIB,
                                  .map = map,
                                  .map_count = 2};
    static neomm_frame_t frames[3000];
    uint32_t count = 0, high = 0;
    ASSERT(t, env_open(t, &env, &options));
    while (count < 3000 && neomm_pmm_alloc(env.root, 0, 0, &frames[count]) == NEOMM_OK) {
        neomm_paddr_t at = neomm_frame_paddr(frames[count]);
        bool low = at >= 0x2000 && at + 4096 <= map[0].base + map[0].length;
        EXPECT(t, low || (at >= far + 0x1000 && at + 4096 <= map[1].base + map[1].length));
        high += !low;
        count++;
    }
    EXPECT(t, count > 1000 && count < 3000 && high > 500);
    while (count-- > 0)
        EXPECT_OK(t, neomm_pmm_free(env.root, frames[count], 0));
    env_close(t, &env);
}

/* Every layer starts and ends again, on one CPU and on several. */
static void env_layers(struct ktap *t)
{
    for (int layer = ENV_ROOT; layer <= ENV_VMM; layer++) {
        for (uint32_t cpus = 1; cpus <= 3; cpus += 2) {
            struct env env;
            struct env_options options = {.layer = (enum env_layer)layer,
                                          .format = (enum neomm_format)t->parameter,
                                          .cpus = cpus,
                                          .swap_pages = cpus == 1 ? 0 : 32};
            ASSERT(t, env_open(t, &env, &options));
            EXPECT_EQ(t, env.disk != NULL, layer >= ENV_SWAP && cpus == 3);
            EXPECT_EQ(t, env.used_at_start != 0, layer >= ENV_PAGING);
            env_switch_cpu(&env, cpus - 1);
            EXPECT_EQ(t, neomm_port_cpu()->index, cpus - 1);
            env_close(t, &env);
        }
    }
}

/* Two machines take turns on one thread. */
static void two_machines(struct ktap *t)
{
    struct sim *a = bare_machine(t, MIB, 2, 1), *b = bare_machine(t, MIB, 1, 2);
    ASSERT(t, a && b);
    sim_bind(a, 1);
    neomm_irq_t irq = neomm_port_irq_save();
    sim_bind(b, 0);
    EXPECT(t, !sim_interrupts_masked());
    EXPECT_EQ(t, neomm_port_cpu()->index, 0);
    sim_bind(a, 0);
    EXPECT(t, !sim_interrupts_masked());
    sim_bind(a, 1);
    EXPECT(t, sim_interrupts_masked());
    neomm_port_irq_restore(irq);
    EXPECT_EQ(t, sim_check_end(a) + sim_check_end(b), 0);
    EXPECT_EQ(t, sim_violations(a) + sim_violations(b), 0);
    sim_destroy(a);
    sim_destroy(b);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(ram_bytes),
    KTAP_CASE(ram_huge),
    KTAP_CASE(ram_image),
#if NEOMM_INSTRUMENTED
    KTAP_CASE(ram_poison),
#endif
    KTAP_CASE_WITH(snapshots, sizes),
    KTAP_CASE_WITH(snapshot_of_system, formats),
    KTAP_CASE_WITH(window_pointers, formats),
    KTAP_CASE(cpu_features),
    KTAP_CASE(cpu_registers),
    KTAP_CASE_WITH(user_memory, formats),
#if NEOMM_INSTRUMENTED
    KTAP_CASE(fault_plan),
    KTAP_CASE(lock_hooks),
#endif
    KTAP_CASE(bad_ends),
    KTAP_CASE(env_with_holes),
    KTAP_CASE_WITH(env_layers, formats),
    KTAP_CASE(two_machines),
};
KTAP_SUITE(sim, cases);
