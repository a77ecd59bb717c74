/* The demo kernel's inside: what its files have of each other.
 * SPDX-License-Identifier: MIT
 *
 *   ARCH/boot.S    -> main.c      from the loader to C
 *   memory.c, system.c            the memory manager, from the firmware's map upwards
 *   ARCH/entry.S   -> trap.c      page faults, system calls, crashes
 *   port_kernel.c                 what libneomm needs of a kernel
 *   suites.c, test_boot.c         what is run once everything is up
 */
#ifndef KERNEL_KERNEL_H
#define KERNEL_KERNEL_H

#include "arch.h"
#include "ktap.h"

#include <neomm/neomm.h>

/* ---- the image, laid out by image.ld ---- */
extern char image_text[], image_text_end[];
extern char image_rodata[], image_rodata_end[];
extern char image_data[], image_data_end[];
extern char image_stack[], image_stack_end[];

static inline neomm_paddr_t image_physical(const void *pointer)
{
    return (uintptr_t)pointer - (uintptr_t)KERNEL_BASE;
}

/* ---- boot.S, firmware.c: what the machine and its loader say ---- */

/* Called by boot.S with the physical address of the loader's structure; the first BOOT_MAPPED
 * bytes of memory are mapped at KERNEL_BASE, and still at their physical addresses. */
NEOMM_NORETURN void kernel_main(uint32_t loader_info);

/* Copies the command line, cut at size - 1 bytes. */
void firmware_command_line(uint32_t loader_info, char *to, size_t size);
/* Adds the loader's memory map, and what it left in memory itself, to `map`. */
neomm_status firmware_map(uint32_t loader_info, struct neomm_bootmap *map);

/* ---- command_line.c ---- */
void command_line_read(uint32_t loader_info);
const char *command_line(void);
/* True if `word` stands in it by itself. */
bool command_line_has(const char *word);

/* ---- machine.c: segments, interrupts, the way out ---- */
void machine_init(void);
/* Where traps from user mode put their frames: the TSS's field. */
uintptr_t *machine_trap_stack(void);

/* Ends QEMU through its isa-debug-exit device with (code << 1) | 1. */
enum exit_code { EXIT_PASSED = 0x10, EXIT_FAILED = 0x11, EXIT_PANIC = 0x12 };
NEOMM_NORETURN void machine_exit(enum exit_code code);

/* ---- console.c: the first serial port ---- */
void console_init(void);
void console_write(const char *text, size_t length);
/* %s, and %u and %x, with z for words; no widths. */
void console_print(const char *format, ...) NEOMM_PRINTF(1, 2);
/* Prints `text` behind "# ", as a KTAP diagnostic. */
void console_line(void *context, const char *text);

/* ---- clock.c ---- */
void clock_init(void);
uint64_t clock_now(void); /* nanoseconds since clock_init */
/* Halts the CPU until an interrupt, for a millisecond at most. Interrupts are masked before and
 * after. */
void clock_halt(void);
/* The timer's interrupt is done with. */
void clock_interrupt(void);

/* ---- trap.c: user mode ---- */

/* Those below are the CPU's own. */
#define VECTOR_INTERRUPTS 32
struct user_end {
    bool exited;                      /* by the system call; otherwise by a trap */
    uintptr_t code;                   /* of the exit */
    bool killed;                      /* by user_kill */
    uintptr_t vector;                 /* of the trap */
    neomm_vaddr_t address;            /* of a page fault */
    enum neomm_fault_outcome outcome; /* of a page fault */
    unsigned faults;                  /* page faults on the way, resolved or not */
};

#define USER_ARGUMENTS 3

/* User copies that ended at a fix-up so far. */
unsigned trap_fixups(void);
/* Tells whose page faults those of the kernel's user copies are, where user_set_space has no
 * say; NULL: user_set_space has. */
typedef struct neomm_space *trap_finder(void);
void trap_set_finder(trap_finder *finder);
/* The program that runs in the space with this index, if it is the one, ends. */
void user_kill(uint32_t space);
/* Loads `space` on this CPU and lets page faults at user addresses go to it; NULL: none. */
void user_set_space(struct neomm_space *space);
/* Runs user code of the loaded space at `entry` on the stack below `stack` until it exits or is
 * ended. */
void user_run(neomm_vaddr_t entry, neomm_vaddr_t stack, const uintptr_t arguments[USER_ARGUMENTS],
              struct user_end *end);
/* entry.S */
void user_enter(const struct trap_frame *frame, uintptr_t *trap_stack);
NEOMM_NORETURN void user_leave(uintptr_t trap_stack);
void trap_handle(struct trap_frame *frame);

/* The user programs (user.S), position-independent; each takes its arguments as noted. */
extern const char user_image[], user_image_end[];
extern const char user_fill[];  /* address, pages, seed: writes and checks; exits with the
                                   number of words that differ */
extern const char user_check[]; /* address, pages, seed: only checks */
extern const char user_store[]; /* address, value; exits with 0 */
extern const char user_load[];  /* address; exits with the word there */
extern const char user_jump[];  /* address */
extern const char user_print[]; /* address, length: writes to the console */
extern const char user_halt[];  /* a privileged instruction */

/* ---- port_kernel.c ---- */
/* Its `root` is the instance that page faults are resolved by. */
extern struct neomm_cpu kernel_cpu;
/* How often it has halted since there was nothing to do. */
unsigned port_idles(void);

/* ---- memory.c: the kernel's own memory manager ---- */

/* Of the disk it swaps to. */
#define SWAP_PAGES 256

/* Brings up every layer from the firmware's map. False: failed, and said why. */
bool memory_start(uint32_t loader_info);
/* Ends the layers above paging, each of which checks for leaks. */
bool memory_stop(void);
struct neomm *memory_root(void);
/* The paging format that boot.S has turned on. */
enum neomm_format boot_format(void);
/* The layout for this machine, whose memory lies below `end`. */
neomm_status memory_layout(neomm_paddr_t end, struct neomm_layout *layout);
/* memstat to the console. */
void memory_report(void);

/* ---- suites.c, test_boot.c ---- */
extern const struct ktap_suite suite_boot;
/* Memory that the suites have for themselves: the memory manager maps it, but leaves it alone.
 * Length 0: none. */
extern const struct neomm_boot_range suites_memory;
/* Runs every suite of this kernel; returns the number of failed cases. */
unsigned suites_run(void);

#endif
