/* Page tables built by hand in a simulated machine.
 * SPDX-License-Identifier: MIT */
#include "sim_tables.h"

#include <stdlib.h>
#include <string.h>

/* An entry of 8 bytes lies on a multiple of 8 also where uint64_t need not. */
typedef uint64_t aligned64 __attribute__((aligned(8)));

static unsigned entry_size(const struct bench *bench)
{
    return bench->format == NEOMM_FORMAT_2LEVEL ? 4 : 8;
}

unsigned bench_shift(enum neomm_format format, unsigned level)
{
    static const unsigned shift[2][6] = {{0, 12, 22, 0, 0, 0}, {0, 12, 21, 30, 39, 48}};
    return shift[format != NEOMM_FORMAT_2LEVEL][level];
}

unsigned bench_top_level(enum neomm_format format)
{
    static const unsigned top[] = {2, 3, 4, 5};
    return top[format];
}

unsigned bench_leaf_levels(enum neomm_format format)
{
    return bench_is_long(format) ? 3 : 2;
}

neomm_paddr_t bench_table(struct bench *bench)
{
    static const uint8_t zero[NEOMM_PAGE_SIZE];
    neomm_paddr_t table = bench->next_table;
    if (table >= BENCH_LEAVES || !sim_physical_write(bench->sim, table, zero, sizeof(zero)))
        abort();
    bench->next_table += NEOMM_PAGE_SIZE;
    return table;
}

uint64_t bench_load(const struct bench *bench, neomm_paddr_t entry)
{
    const void *at = sim_pointer(bench->sim, entry);
    if (entry_size(bench) == 4)
        return __atomic_load_n((const uint32_t *)at, __ATOMIC_ACQUIRE);
    return __atomic_load_n((const aligned64 *)at, __ATOMIC_ACQUIRE);
}

void bench_store(const struct bench *bench, neomm_paddr_t entry, uint64_t value)
{
    void *at = sim_pointer(bench->sim, entry);
    uint64_t before = bench_load(bench, entry);
    if (entry_size(bench) == 4)
        __atomic_store_n((uint32_t *)at, (uint32_t)value, __ATOMIC_RELEASE);
    else
        __atomic_store_n((aligned64 *)at, value, __ATOMIC_RELEASE);
#if NEOMM_INSTRUMENTED
    neomm_hook_entry_stored(entry, before, value);
#else
    (void)before;
#endif
}

neomm_paddr_t bench_entry(struct bench *bench, neomm_paddr_t top, neomm_vaddr_t vaddr,
                          unsigned level)
{
    unsigned size = entry_size(bench);
    neomm_paddr_t table = top;
    for (unsigned at = bench_top_level(bench->format);; at--) {
        uint64_t index = (uint64_t)vaddr >> bench_shift(bench->format, at);
        neomm_paddr_t entry = table + index % (NEOMM_PAGE_SIZE / size) * size;
        if (at == level)
            return entry;
        uint64_t value = bench_load(bench, entry);
        if ((value & E_P) && (value & E_PS))
            return 0;
        if (!(value & E_P)) {
            bool bare = bench->format == NEOMM_FORMAT_PAE && at == 3;
            value = bench_table(bench) | E_P | (bare ? 0 : E_W | E_U);
            bench_store(bench, entry, value);
        }
        table = value & 0xfffffffff000u;
    }
}

void bench_map(struct bench *bench, neomm_vaddr_t vaddr, unsigned level, neomm_paddr_t paddr,
               uint64_t flags)
{
    neomm_paddr_t entry = bench_entry(bench, bench->top, vaddr, level);
    bench_store(bench, entry, paddr | flags | (level > 1 ? E_PS : 0));
}

/* PAE loads its registers from tables that exist by then. */
static void make_directories(struct bench *bench, neomm_paddr_t top)
{
    for (unsigned i = 0; i < 4 && bench->format == NEOMM_FORMAT_PAE; i++)
        (void)bench_entry(bench, top, (neomm_vaddr_t)i << 30, 2);
}

void bench_activate(struct bench *bench, neomm_paddr_t top)
{
    uint32_t here = sim_this_cpu()->index;
    make_directories(bench, top);
    for (uint32_t cpu = 0; cpu < bench->sim->options.cpus; cpu++) {
        sim_bind(bench->sim, cpu);
        neomm_cpu_write_cr3((uintptr_t)top);
    }
    sim_bind(bench->sim, here);
    bench->top = top;
}

bool bench_open(struct ktap *t, struct bench *bench, enum neomm_format format,
                const struct sim_options *options)
{
    struct sim_options made = options ? *options : (struct sim_options){0};
    made.format = format;
    made.ram_bytes = BENCH_RAM;
    made.keep_going = true;
    memset(bench, 0, sizeof(*bench));
    bench->format = format;
    bench->next_table = BENCH_TABLES;
    bench->sim = sim_create(&made);
    if (!bench->sim) {
        ktap_fail(t, __FILE__, __LINE__, "sim_create");
        return false;
    }
    for (uint32_t cpu = bench->sim->options.cpus; cpu-- > 0;) {
        sim_bind(bench->sim, cpu);
        neomm_cpu_write_cr0(neomm_cpu_read_cr0() | NEOMM_CR0_WP);
        neomm_cpu_write_cr4(neomm_cpu_read_cr4() | NEOMM_CR4_PSE | NEOMM_CR4_PGE);
        neomm_cpu_write_msr(NEOMM_MSR_EFER, neomm_cpu_read_msr(NEOMM_MSR_EFER) | NEOMM_EFER_NXE);
    }
    bench_activate(bench, bench_table(bench));
    (void)bench_violations(bench);
    return true;
}

void bench_close(struct ktap *t, struct bench *bench)
{
    if (sim_violations(bench->sim) != 0)
        ktap_note(t, "%s", sim_last_violation(bench->sim));
    EXPECT_EQ(t, bench_violations(bench), 0);
    sim_destroy(bench->sim);
}

unsigned bench_violations(struct bench *bench)
{
    unsigned count = (unsigned)sim_violations(bench->sim);
    bench->sim->violations = 0;
    return count;
}

void bench_invalidate(const struct bench *bench, neomm_vaddr_t vaddr)
{
    uint32_t here = sim_this_cpu()->index;
    for (uint32_t cpu = 0; cpu < bench->sim->options.cpus; cpu++) {
        sim_bind(bench->sim, cpu);
        neomm_cpu_invlpg(vaddr);
    }
    sim_bind(bench->sim, here);
}

void bench_settled(const struct bench *bench, neomm_paddr_t top, enum neomm_flush_site site)
{
    (void)bench;
#if NEOMM_INSTRUMENTED
    neomm_hook_settled(neomm_paddr_frame(top), site);
#else
    (void)top, (void)site;
#endif
}

void bench_frames_freed(const struct bench *bench, neomm_paddr_t first, uint32_t count)
{
    sim_tlb_check_frames(bench->sim, neomm_paddr_frame(first), count, true);
}

void bench_frames_allocated(const struct bench *bench, neomm_paddr_t first, uint32_t count)
{
    sim_tlb_check_frames(bench->sim, neomm_paddr_frame(first), count, false);
}

uint32_t bench_access(const struct bench *bench, neomm_vaddr_t vaddr, enum sim_access access,
                      bool user, neomm_paddr_t *paddr)
{
    neomm_paddr_t found = 0;
    uint32_t error = 0;
    if (!sim_translate(bench->sim, vaddr, access, user, &found, &error))
        return error;
    if (paddr)
        *paddr = found;
    return BENCH_DONE;
}
