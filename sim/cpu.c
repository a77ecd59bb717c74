/* The CPU primitives (include/neomm/cpu.h) of the simulated machine.
 * SPDX-License-Identifier: MIT
 *
 * What would be a general-protection fault on hardware is a violation. Source: Intel SDM volume
 * 3A chapter 2.5 (control registers), 11.12 (PAT), volume 2A CPUID.
 */
#include "machine.h"

#include <string.h>

#define EFER_SCE ((uint64_t)1)
#define EFER_LME ((uint64_t)1 << 8)
#define EFER_LMA ((uint64_t)1 << 10)
#define CR0_PE   ((uintptr_t)1)

/* A user reference is repeated after this many resolved faults and no more. */
#define RETRIES 16

static struct sim_cpu *cpu_here(void)
{
    return sim_place.cpu;
}

static bool has(const struct sim *sim, uint32_t absent)
{
    return (sim->options.absent & absent) == 0;
}

static bool is_long(const struct sim *sim)
{
    return sim->options.format == NEOMM_FORMAT_4LEVEL || sim->options.format == NEOMM_FORMAT_5LEVEL;
}

/* ---- CPUID ---- */

static uint32_t bit_if(bool on, unsigned bit)
{
    return on ? 1u << bit : 0;
}

static uint32_t feature_edx(const struct sim *sim)
{
    return bit_if(has(sim, SIM_NO_PSE), 3) | 1u << 5 /* MSR */ | 1u << 6 /* PAE */ |
           1u << 8 /* CX8 */ | bit_if(has(sim, SIM_NO_PGE), 13) | bit_if(has(sim, SIM_NO_PAT), 16);
}

static uint32_t extended_edx(const struct sim *sim)
{
    return bit_if(has(sim, SIM_NO_NX), 20) | bit_if(is_long(sim) && has(sim, SIM_NO_1G), 26) |
           bit_if(is_long(sim), 29);
}

static uint32_t linear_bits(const struct sim *sim)
{
    return !is_long(sim) ? 32 : sim->options.format == NEOMM_FORMAT_5LEVEL ? 57 : 48;
}

void neomm_cpu_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const struct sim *sim = cpu_here()->sim;
    memset(out, 0, 4 * sizeof(out[0]));
    switch (leaf) {
    case 0:
        out[0] = 7;
        break;
    case 1:
        out[2] = bit_if(is_long(sim) && has(sim, SIM_NO_PCID), 17);
        out[3] = feature_edx(sim);
        break;
    case 7:
        if (subleaf == 0) {
            out[1] = bit_if(has(sim, SIM_NO_SMEP), 7) | bit_if(has(sim, SIM_NO_INVPCID), 10) |
                     bit_if(has(sim, SIM_NO_SMAP), 20);
            out[2] = bit_if(has(sim, SIM_NO_UMIP), 2) |
                     bit_if(sim->options.format == NEOMM_FORMAT_5LEVEL, 16);
        }
        break;
    case 0x80000000u:
        out[0] = 0x80000008u;
        break;
    case 0x80000001u:
        out[3] = extended_edx(sim);
        break;
    case 0x80000008u:
        out[0] = sim->options.physical_bits | linear_bits(sim) << 8;
        break;
    default:
        break;
    }
}

/* ---- control registers ---- */

static void refuse(const char *what, uint64_t value)
{
    sim_violation(cpu_here()->sim, "cpu: general protection: %s %#llx", what,
                  (unsigned long long)value);
}

uintptr_t neomm_cpu_read_cr0(void)
{
    return cpu_here()->cr0;
}

void neomm_cpu_write_cr0(uintptr_t value)
{
    struct sim_cpu *cpu = cpu_here();
    bool entered = sim_cpu_enter(cpu->sim);
    uintptr_t before = cpu->cr0;
    if ((value & NEOMM_CR0_PG) && !(value & CR0_PE))
        refuse("CR0 with PG without PE", value);
    if (!(value & NEOMM_CR0_PG) && (cpu->cr4 & NEOMM_CR4_PCIDE))
        refuse("CR0 without PG under CR4.PCIDE", value);
    sim_lock(cpu->sim);
    cpu->cr0 = value;
    sim_tlb_cr0_written(cpu, before);
    sim_unlock(cpu->sim);
    sim_cpu_leave(entered);
}

uintptr_t neomm_cpu_read_cr3(void)
{
    return cpu_here()->cr3;
}

void neomm_cpu_write_cr3(uintptr_t value)
{
    struct sim_cpu *cpu = cpu_here();
    bool entered = sim_cpu_enter(cpu->sim);
    bool keep = (cpu->cr4 & NEOMM_CR4_PCIDE) && (value & NEOMM_CR3_KEEP);
    if (keep)
        value &= (uintptr_t)~NEOMM_CR3_KEEP;
    if (cpu->sim->options.physical_bits < 64 &&
        (uint64_t)value >> cpu->sim->options.physical_bits != 0)
        refuse("CR3 beyond the physical width", value);
    sim_lock(cpu->sim); /* other CPUs' stores look at it */
    sim_tlb_cr3_leaves(cpu);
    __atomic_store_n(&cpu->cr3, value, __ATOMIC_RELAXED);
    sim_tlb_cr3_written(cpu, keep);
    sim_unlock(cpu->sim);
    sim_cpu_leave(entered);
}

uintptr_t neomm_cpu_read_cr4(void)
{
    return cpu_here()->cr4;
}

static uintptr_t cr4_supported(const struct sim *sim)
{
    uintptr_t bits = NEOMM_CR4_PAE;
    bits |= has(sim, SIM_NO_PSE) ? NEOMM_CR4_PSE : 0;
    bits |= has(sim, SIM_NO_PGE) ? NEOMM_CR4_PGE : 0;
    bits |= has(sim, SIM_NO_UMIP) ? NEOMM_CR4_UMIP : 0;
    bits |= has(sim, SIM_NO_SMEP) ? NEOMM_CR4_SMEP : 0;
    bits |= has(sim, SIM_NO_SMAP) ? NEOMM_CR4_SMAP : 0;
    bits |= sim->options.format == NEOMM_FORMAT_5LEVEL ? NEOMM_CR4_LA57 : 0;
    bits |= is_long(sim) && has(sim, SIM_NO_PCID) ? NEOMM_CR4_PCIDE : 0;
    return bits;
}

void neomm_cpu_write_cr4(uintptr_t value)
{
    struct sim_cpu *cpu = cpu_here();
    bool entered = sim_cpu_enter(cpu->sim);
    uintptr_t before = cpu->cr4;
    if (value & ~cr4_supported(cpu->sim))
        refuse("CR4 with bits this CPU lacks", value);
    if (is_long(cpu->sim) && ((value ^ before) & (NEOMM_CR4_PAE | NEOMM_CR4_LA57)))
        refuse("CR4 changes the format in long mode", value);
    if ((value & ~before & NEOMM_CR4_PCIDE) && (cpu->cr3 & NEOMM_CR3_PCID))
        refuse("CR4 turns PCIDs on while the one in CR3 is not 0", value);
    sim_lock(cpu->sim);
    cpu->cr4 = value;
    sim_tlb_cr4_written(cpu, before);
    sim_unlock(cpu->sim);
    sim_cpu_leave(entered);
}

/* ---- model-specific registers ---- */

uint64_t neomm_cpu_read_msr(uint32_t msr)
{
    if (msr == NEOMM_MSR_EFER)
        return cpu_here()->efer;
    if (msr == NEOMM_MSR_PAT)
        return cpu_here()->pat;
    refuse("RDMSR of", msr);
    return 0;
}

/* Types 0, 1, 4, 5, 6, 7 exist (SDM 3A 11.12.2). */
static bool is_pat(uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned type = (unsigned)(value >> (8 * i)) & 0xff;
        if (type > 7 || type == 2 || type == 3)
            return false;
    }
    return true;
}

static void write_efer(struct sim_cpu *cpu, uint64_t value)
{
    uint64_t before = cpu->efer;
    uint64_t allowed = EFER_SCE | (is_long(cpu->sim) ? EFER_LME | EFER_LMA : 0) |
                       (has(cpu->sim, SIM_NO_NX) ? NEOMM_EFER_NXE : 0);
    if (value & ~allowed || ((value ^ before) & (EFER_LME | EFER_LMA)))
        refuse("WRMSR of EFER", value);
    sim_lock(cpu->sim);
    cpu->efer = value;
    sim_tlb_efer_written(cpu, before);
    sim_unlock(cpu->sim);
}

void neomm_cpu_write_msr(uint32_t msr, uint64_t value)
{
    struct sim_cpu *cpu = cpu_here();
    bool entered = sim_cpu_enter(cpu->sim);
    if (msr == NEOMM_MSR_EFER)
        write_efer(cpu, value);
    else if (msr == NEOMM_MSR_PAT && has(cpu->sim, SIM_NO_PAT) && is_pat(value))
        cpu->pat = value;
    else
        refuse("WRMSR", msr);
    sim_cpu_leave(entered);
}

void neomm_cpu_invlpg(neomm_vaddr_t vaddr)
{
    struct sim_cpu *cpu = cpu_here();
    bool entered = sim_cpu_enter(cpu->sim);
    sim_tlb_invlpg(cpu, vaddr);
    sim_cpu_leave(entered);
}

/* Volume 2A, INVPCID: what makes a general protection fault, or the instruction unknown. */
static const char *invpcid_fault(const struct sim_cpu *cpu, enum neomm_invpcid type, uint32_t pcid,
                                 neomm_vaddr_t vaddr)
{
    bool one = type == NEOMM_INVPCID_ADDRESS || type == NEOMM_INVPCID_CONTEXT;
    if (!has(cpu->sim, SIM_NO_INVPCID))
        return "INVPCID, which this CPU lacks, of";
    if (type > NEOMM_INVPCID_ALL)
        return "INVPCID type";
    if (pcid & ~NEOMM_CR3_PCID || (one && pcid != 0 && !(cpu->cr4 & NEOMM_CR4_PCIDE)))
        return "INVPCID of PCID";
    if (type == NEOMM_INVPCID_ADDRESS && !sim_canonical(cpu->sim, vaddr))
        return "INVPCID of an address that is not canonical, PCID";
    return NULL;
}

void neomm_cpu_invpcid(enum neomm_invpcid type, uint32_t pcid, neomm_vaddr_t vaddr)
{
    struct sim_cpu *cpu = cpu_here();
    bool entered = sim_cpu_enter(cpu->sim);
    const char *fault = invpcid_fault(cpu, type, pcid, vaddr);
    if (fault)
        refuse(fault, type > NEOMM_INVPCID_ALL ? (uint64_t)type : pcid);
    else
        sim_tlb_invpcid(cpu, type, pcid, vaddr);
    sim_cpu_leave(entered);
}

/* ---- caches, of which the machine has none ---- */

void neomm_cpu_flush_cache(const void *pointer, size_t size)
{
    (void)pointer, (void)size;
    sim_arena_settle(cpu_here()->sim);
}

/* ---- memory ---- */

bool sim_move(struct sim *sim, neomm_vaddr_t vaddr, void *data, size_t size, enum sim_access access,
              bool user, uint32_t *error)
{
    sim_sched_here("makes a reference", __builtin_return_address(0));
    bool entered = sim_cpu_enter(sim);
    void *at = sim_reference(sim, vaddr, access, user, error);
    if (at && access == SIM_WRITE)
        memcpy(at, data, size);
    else if (at)
        memcpy(data, at, size);
    sim_cpu_leave(entered);
    return at != NULL;
}

void sim_set_fault_handler(struct sim *sim, sim_fault_fn *handler, void *context)
{
    sim->fault = handler;
    sim->fault_context = context;
}

/* What to do with the bytes while their translation holds. */
typedef void user_fn(uint8_t *user, size_t size, void *context);

/* One reference by the kernel to a user page, as STAC allows it; false: a fault. */
static bool try_user(struct sim *sim, neomm_vaddr_t user, size_t size, enum sim_access access,
                     user_fn *act, void *context, uint32_t *error)
{
    struct sim_cpu *cpu = cpu_here();
    bool entered = sim_cpu_enter(sim);
    cpu->access_open = true;
    void *at = sim_reference(sim, user, access, false, error);
    cpu->access_open = false;
    if (at)
        act(at, size, context);
    sim_cpu_leave(entered);
    return at != NULL;
}

/* The same with the fault handler's help, which may sleep and so runs outside. */
static bool reach_user(neomm_vaddr_t user, size_t size, enum sim_access access, user_fn *act,
                       void *context)
{
    struct sim *sim = cpu_here()->sim;
    uint32_t error = 0;
    for (unsigned i = 0; i < RETRIES; i++) {
        if (try_user(sim, user, size, access, act, context, &error))
            return true;
        if (!sim->fault || !sim->fault(sim->fault_context, user, error))
            return false;
    }
    return false;
}

static size_t to_page_end(neomm_vaddr_t vaddr, size_t most)
{
    size_t rest = NEOMM_PAGE_SIZE - ((size_t)vaddr & (NEOMM_PAGE_SIZE - 1));
    return rest < most ? rest : most;
}

static void copy_in(uint8_t *user, size_t size, void *context)
{
    memcpy(context, user, size);
}

static void copy_out(uint8_t *user, size_t size, void *context)
{
    memcpy(user, context, size);
}

size_t neomm_cpu_user_copy(neomm_vaddr_t user, void *kernel, size_t bytes, bool to_user)
{
    uint8_t *at = kernel;
    while (bytes > 0) {
        size_t part = to_page_end(user, bytes);
        if (!reach_user(user, part, to_user ? SIM_WRITE : SIM_READ, to_user ? copy_out : copy_in,
                        at))
            break;
        user += part;
        at += part;
        bytes -= part;
    }
    return bytes;
}

struct exchange {
    uint32_t expected, desired;
    bool done;
};

static void exchange(uint8_t *user, size_t size, void *context)
{
    struct exchange *e = context;
    (void)size;
    e->done = __atomic_compare_exchange_n((uint32_t *)(void *)user, &e->expected, e->desired, false,
                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

neomm_status neomm_cpu_user_cas(neomm_vaddr_t user, uint32_t *expected, uint32_t desired)
{
    struct exchange e = {*expected, desired, false};
    if (user & 3)
        sim_violation(cpu_here()->sim, "cpu: compare-exchange of a misaligned user word");
    if (!reach_user(user, sizeof(uint32_t), SIM_WRITE, exchange, &e))
        return NEOMM_E_FAULT;
    *expected = e.expected;
    return e.done ? NEOMM_OK : NEOMM_E_AGAIN;
}

struct scan {
    size_t length;
    bool found;
};

static void scan(uint8_t *user, size_t size, void *context)
{
    struct scan *s = context;
    const uint8_t *nul = memchr(user, 0, size);
    s->found = nul != NULL;
    s->length += nul ? (size_t)(nul - user) : size;
}

neomm_status neomm_cpu_user_strlen(neomm_vaddr_t user, size_t limit, size_t *length)
{
    struct scan s = {0, false};
    while (!s.found && s.length < limit) {
        neomm_vaddr_t at = user + s.length;
        if (!reach_user(at, to_page_end(at, limit - s.length), SIM_READ, scan, &s))
            return NEOMM_E_FAULT;
    }
    *length = s.length;
    return NEOMM_OK;
}
