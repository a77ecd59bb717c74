/* Time since boot: the CPU's time-stamp counter, measured once against the interval timer; and the
 * timer's interrupt, which ends a halt.
 * SPDX-License-Identifier: MIT
 *
 * Source: Intel 8254 data sheet (mode 0); port 61h: bit 0 gates channel 2, bit 5 is its output.
 * Intel 8259A data sheet (ICW1 to ICW4, OCW1 and OCW2).
 */
#include "io.h"
#include "kernel.h"

#define PIT_CHANNEL_0 0x40
#define PIT_CHANNEL_2 0x42
#define PIT_COMMAND   0x43
#define PIT_HZ        1193182u
#define GATE          0x61
#define GATE_ON       0x01
#define GATE_SPEAKER  0x02
#define GATE_OUTPUT   0x20

#define PIC_MASTER      0x20
#define PIC_MASTER_DATA 0x21
#define PIC_TIMER       0x01 /* its line */
#define PIC_ALL         0xff
#define PIC_END         0x20

#define HALT_COUNT (PIT_HZ / 1000)

#define SAMPLE_NS    10000000u
#define SAMPLE_COUNT (PIT_HZ / 100)
#define FRACTION     22 /* bits of nanoseconds_per_tick behind the point */

static uint64_t start;
static uint32_t nanoseconds_per_tick;

/* dividend / divisor where the quotient has 32 bits: i386 has no library for the rest. */
static uint32_t divide(uint64_t dividend, uint32_t divisor)
{
    uint32_t quotient, remainder;
    __asm__("divl %4"
            : "=a"(quotient), "=d"(remainder)
            : "a"((uint32_t)dividend), "d"((uint32_t)(dividend >> 32)), "r"(divisor));
    return quotient;
}

/* The timer's line becomes the first vector behind the CPU's own; all are masked but for a halt. */
static void init_interrupts(void)
{
    io_out8(PIC_MASTER, 0x11);
    io_out8(PIC_MASTER_DATA, VECTOR_INTERRUPTS);
    io_out8(PIC_MASTER_DATA, 0x04); /* where the slave is */
    io_out8(PIC_MASTER_DATA, 0x01);
    io_out8(PIC_MASTER_DATA, PIC_ALL);
}

void clock_init(void)
{
    init_interrupts();
    io_out8(GATE, (uint8_t)((io_in8(GATE) & ~GATE_SPEAKER) | GATE_ON));
    io_out8(PIT_COMMAND, 0xb0); /* channel 2, low then high byte, mode 0 */
    io_out8(PIT_CHANNEL_2, SAMPLE_COUNT & 0xff);
    io_out8(PIT_CHANNEL_2, SAMPLE_COUNT >> 8);
    start = cpu_timestamp();
    while (!(io_in8(GATE) & GATE_OUTPUT))
        __builtin_ia32_pause();
    uint32_t ticks = (uint32_t)(cpu_timestamp() - start);
    /* Below 10 MHz the quotient would not fit; such a counter does not exist. */
    if (ticks < SAMPLE_NS / 100)
        ticks = SAMPLE_NS / 100;
    nanoseconds_per_tick = divide((uint64_t)SAMPLE_NS << FRACTION, ticks);
}

uint64_t clock_now(void)
{
    uint64_t ticks = cpu_timestamp() - start;
    uint64_t high = (ticks >> 32) * nanoseconds_per_tick;
    uint64_t low = (ticks & UINT32_MAX) * nanoseconds_per_tick;
    return (high << (32 - FRACTION)) + (low >> FRACTION);
}

/* STI lets nothing in before the halt behind it (SDM 2B). */
void clock_halt(void)
{
    io_out8(PIT_COMMAND, 0x30); /* channel 0, low then high byte, mode 0 */
    io_out8(PIT_CHANNEL_0, HALT_COUNT & 0xff);
    io_out8(PIT_CHANNEL_0, HALT_COUNT >> 8);
    io_out8(PIC_MASTER_DATA, PIC_ALL & ~PIC_TIMER);
    __asm__ volatile("sti; hlt; cli" : : : "memory");
    io_out8(PIC_MASTER_DATA, PIC_ALL);
}

void clock_interrupt(void)
{
    io_out8(PIC_MASTER, PIC_END);
}
