/* The port: the fourteen functions that libneomm needs of a kernel, here for one CPU whose devices
 * are polled. This is the file to begin with when porting.
 * SPDX-License-Identifier: MIT
 */
#include "io.h"
#include "kernel.h"
#include "ramdisk.h"
#include "virtio_blk.h"

#define FLAGS_INTERRUPTS   0x200u
#define CPUID_1_ECX_RDRAND (1u << 30)
#define RDRAND_TRIES       10

/* With several CPUs: one in each CPU's own area, found through a segment register. */
struct neomm_cpu kernel_cpu;

/* ---- stage 1: frames, paging, heap on one CPU ---- */

void neomm_port_panic(const char *text)
{
    cpu_disable_interrupts();
    console_print("\n# panic: %s\n", text);
    machine_exit(EXIT_PANIC);
}

void neomm_port_log(enum neomm_log_level level, const char *text, size_t length)
{
    static const char *const name[] = {"error", "warning", "info", "debug"};
    console_print("# neomm %s: ", name[level]);
    console_write(text, length);
    console_write("\n", 1);
}

struct neomm_cpu *neomm_port_cpu(void)
{
    return &kernel_cpu;
}

/* One CPU: there is nowhere else to be moved to. */
struct neomm_cpu *neomm_port_pin(void)
{
    return &kernel_cpu;
}

void neomm_port_unpin(void)
{
}

neomm_irq_t neomm_port_irq_save(void)
{
    neomm_irq_t flags;
    __asm__ volatile("pushf; pop %0; cli" : "=r"(flags) : : "memory");
    return flags & FLAGS_INTERRUPTS;
}

void neomm_port_irq_restore(neomm_irq_t state)
{
    if (state)
        cpu_enable_interrupts();
}

/* ---- stage 2: several CPUs ---- */

/* There is no other CPU: whoever names one has lost count. */
void neomm_port_ipi(const struct neomm_cpumask *cpus, void (*call)(void *argument), void *argument)
{
    (void)call;
    (void)argument;
    for (unsigned i = 0; i < NEOMM_CPU_WORDS; i++)
        if (cpus->word[i] & ~(i == 0 ? 1u << kernel_cpu.index : 0u))
            neomm_port_panic("a call to a CPU that is not there");
}

/* ---- stage 3: spaces, swap ---- */

uint64_t neomm_port_now(void)
{
    return clock_now();
}

/* A bijection of 64 bits in which every input bit reaches every output bit. */
static uint64_t scramble(uint64_t value)
{
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}

static bool hardware_random(uintptr_t *value)
{
    uint32_t out[4];
    neomm_cpu_cpuid(1, 0, out);
    if (!(out[2] & CPUID_1_ECX_RDRAND))
        return false;
    for (unsigned i = 0; i < RDRAND_TRIES; i++) {
        bool carry;
        __asm__ volatile("rdrand %0" : "=r"(*value), "=@ccc"(carry));
        if (carry)
            return true;
    }
    return false;
}

/* Without RDRAND the time-stamp counter is all there is: hard to guess, not a secret. */
uint64_t neomm_port_entropy(void)
{
    static uint64_t pool;
    uintptr_t value;
    neomm_irq_t irq = neomm_port_irq_save();
    pool = scramble(pool + cpu_timestamp());
    if (hardware_random(&value))
        pool = scramble(pool ^ value);
    uint64_t result = pool;
    neomm_port_irq_restore(irq);
    return result;
}

/* ---- stage 4: sleeping in faults and swap ---- */

/* One task runs in this kernel, whatever space is loaded. */
uint64_t neomm_port_task(void)
{
    return 1;
}

static unsigned idles;

unsigned port_idles(void)
{
    return idles;
}

/* What a kernel with a scheduler does where no task can run. While the memory manager starts, and
 * reads the header of a swap area, the CPU is not its yet. */
static void idle(void)
{
    struct neomm *root = kernel_cpu.root;
    neomm_irq_t irq = neomm_port_irq_save();
    if (root)
        neomm_paging_idle(root);
    clock_halt();
    if (root)
        neomm_paging_wake(root);
    idles++;
    neomm_port_irq_restore(irq);
}

/* A kernel with a scheduler sleeps here. This one has a single task, so only a device can change
 * the word; if none is at work, nothing ever will. */
neomm_status neomm_port_wait(const uint32_t *word, uint32_t value, uint64_t timeout_ns)
{
    uint64_t start = clock_now();
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value) {
        if (ramdisk_poll() || virtio_blk_poll())
            continue;
        if (timeout_ns == UINT64_MAX && !virtio_blk_busy())
            neomm_port_panic("waiting for what nobody can do");
        if (timeout_ns != UINT64_MAX && clock_now() - start >= timeout_ns)
            return NEOMM_E_TIMEOUT;
        idle();
    }
    return NEOMM_OK;
}

/* neomm_port_wait looks at the word by itself. */
void neomm_port_wake(const uint32_t *word, uint32_t count)
{
    (void)word;
    (void)count;
}

/* ---- stage 5: running out of memory gracefully ---- */

void neomm_port_oom(struct neomm *root, uint32_t space)
{
    (void)root;
    console_print("# out of memory: the program in space %u ends\n", space);
    user_kill(space);
}
