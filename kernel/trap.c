/* What the CPU reports: page faults, system calls, and mistakes of user code and of the kernel.
 * SPDX-License-Identifier: MIT
 */
#include "io.h"
#include "kernel.h"
#include "user.h"

#include <neomm/heap_debug.h>

#define VECTOR_PAGE_FAULT 14
#define CS_USER           3u
#define FLAGS_FIXED       0x2u
#define FLAGS_INTERRUPTS  0x200u
#define ERROR_FETCH       0x10u /* of a page fault */

/* The user code that runs: space is what is loaded, end is NULL while none runs. */
static struct {
    struct neomm_space *space;
    struct user_end *end;
    trap_finder *finder;
    unsigned fixups;
} current;

static struct neomm_space *loaded_space(void)
{
    return current.finder ? current.finder() : current.space;
}

static bool from_user(const struct trap_frame *frame)
{
    return (frame->cs & 3) == CS_USER;
}

NEOMM_NORETURN static void user_exit(void)
{
    user_leave(*machine_trap_stack());
}

NEOMM_NORETURN static void crash(const struct trap_frame *frame, neomm_vaddr_t address)
{
    console_print("\n# trap %zu error %zx at %zx, address %zx\n", frame->vector, frame->error,
                  frame->ip, address);
    console_print("# flags %zx ax %zx bx %zx cx %zx dx %zx si %zx di %zx bp %zx frame %zx\n",
                  frame->flags, frame->ax, frame->bx, frame->cx, frame->dx, frame->si, frame->di,
                  frame->bp, (uintptr_t)frame);
    neomm_port_panic("unexpected trap");
}

/* A fault of user code, or of a user copy on its behalf, is the address space's affair. */
static enum neomm_fault_outcome resolve(struct neomm_space *space, neomm_vaddr_t address,
                                        uint32_t error)
{
    struct neomm_fault_result result;
    return neomm_fault(kernel_cpu.root, space, address, error, &result);
}

static bool resolved(enum neomm_fault_outcome outcome)
{
    return outcome == NEOMM_FAULT_RESOLVED || outcome == NEOMM_FAULT_RETRY;
}

static void user_page_fault(struct trap_frame *frame, neomm_vaddr_t address)
{
    enum neomm_fault_outcome outcome = resolve(current.space, address, (uint32_t)frame->error);
    current.end->faults++;
    if (resolved(outcome))
        return;
    current.end->vector = frame->vector;
    current.end->address = address;
    current.end->outcome = outcome;
    user_exit();
}

/* The kernel touches user memory only in neomm_cpu_user_*, whose instructions have an entry in
 * the table of fix-ups: there an unresolved fault goes on and reports what is missing. A guarded
 * object that was misused has been reported; the instruction runs again. */
static void kernel_page_fault(struct trap_frame *frame, neomm_vaddr_t address)
{
    if (!kernel_cpu.root)
        crash(frame, address);
    if (!(frame->error & ERROR_FETCH) && neomm_heap_fault(kernel_cpu.root, (void *)address))
        return;
    if (resolved(neomm_kernel_fault(kernel_cpu.root, address, (uint32_t)frame->error,
                                    (frame->flags & FLAGS_INTERRUPTS) != 0)))
        return;
    uintptr_t fixup = neomm_cpu_fixup(frame->ip);
    if (fixup == 0)
        crash(frame, address);
    struct neomm_space *space = loaded_space();
    if (space && address < neomm_layout_of(kernel_cpu.root)->user_limit &&
        resolved(resolve(space, address, (uint32_t)frame->error)))
        return;
    frame->ip = fixup;
    current.fixups++;
}

unsigned trap_fixups(void)
{
    return current.fixups;
}

static void page_fault(struct trap_frame *frame)
{
    neomm_vaddr_t address = cpu_fault_address();
    /* Handling may sleep; only now is the address safe from the next fault. */
    if (frame->flags & FLAGS_INTERRUPTS)
        cpu_enable_interrupts();
    if (from_user(frame))
        user_page_fault(frame, address);
    else
        kernel_page_fault(frame, address);
}

/* Prints user memory in small pieces, none of which is trusted to be there. */
static neomm_status call_write(neomm_vaddr_t address, size_t length)
{
    char piece[64];
    while (length > 0) {
        size_t size = length < sizeof(piece) ? length : sizeof(piece);
        neomm_status status =
            neomm_copy_from_user(kernel_cpu.root, current.space, piece, address, size, NULL);
        if (status != NEOMM_OK)
            return status;
        console_write(piece, size);
        address += size;
        length -= size;
    }
    return NEOMM_OK;
}

static void system_call(struct trap_frame *frame)
{
    cpu_enable_interrupts();
    switch (frame->ax) {
    case USER_CALL_EXIT:
        current.end->exited = true;
        current.end->code = frame->bx;
        user_exit();
    case USER_CALL_WRITE:
        frame->ax = (uintptr_t)call_write(frame->bx, frame->cx);
        break;
    default:
        frame->ax = (uintptr_t)NEOMM_E_UNSUPPORTED;
    }
}

/* The CPU may have been asleep: first of all it makes up for what it was spared. */
static void interrupt(void)
{
    if (kernel_cpu.root)
        neomm_paging_wake(kernel_cpu.root);
    clock_interrupt();
}

void trap_handle(struct trap_frame *frame)
{
    if (frame->vector == VECTOR_PAGE_FAULT) {
        page_fault(frame);
    } else if (frame->vector == USER_VECTOR) {
        system_call(frame);
    } else if (frame->vector < VECTOR_INTERRUPTS) {
        if (!from_user(frame))
            crash(frame, cpu_fault_address());
        current.end->vector = frame->vector;
        user_exit();
    } else {
        interrupt();
    }
    if (from_user(frame) && current.end->killed)
        user_exit();
}

void user_kill(uint32_t space)
{
    if (current.end && current.space && neomm_space_index(current.space) == space)
        current.end->killed = true;
}

void trap_set_finder(trap_finder *finder)
{
    current.finder = finder;
}

void user_set_space(struct neomm_space *space)
{
    current.space = space;
    neomm_space_activate(kernel_cpu.root, space);
}

void user_run(neomm_vaddr_t entry, neomm_vaddr_t stack, const uintptr_t arguments[USER_ARGUMENTS],
              struct user_end *end)
{
    struct trap_frame frame = {
        .bx = arguments[0],
        .cx = arguments[1],
        .dx = arguments[2],
        .ip = entry,
        .cs = SELECTOR_USER_CODE,
        .flags = FLAGS_FIXED | FLAGS_INTERRUPTS,
        .sp = stack,
        .ss = SELECTOR_USER_DATA,
    };
    frame_set_data_segments(&frame, SELECTOR_USER_DATA);
    *end = (struct user_end){0};
    current.end = end;
    /* The stack for traps changes under user_enter. */
    neomm_irq_t irq = neomm_port_irq_save();
    user_enter(&frame, machine_trap_stack());
    neomm_port_irq_restore(irq);
    current.end = NULL;
}
