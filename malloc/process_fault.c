/* Accesses that profile=guarded and profile=hardened make fault: said what they were.
 * SPDX-License-Identifier: MIT
 *
 * A handler of SIGSEGV, installed when the engine starts, and replaced by whoever installs another
 * later. Who had one before gets the signal next; otherwise the program ends by it, as it would
 * without this. Only under bad_free=log the program goes on behind an access to a guarded block,
 * which neomm_heap_fault gives access to for that. */
#include "process.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static struct sigaction previous;

/* By the same signal again, when the handler has returned: the access itself may be possible by
 * now. */
static void end_program(void)
{
    struct sigaction standard;
    memset(&standard, 0, sizeof(standard));
    standard.sa_handler = SIG_DFL;
    (void)sigaction(SIGSEGV, &standard, NULL);
    (void)raise(SIGSEGV);
}

static void hand_on(int number, siginfo_t *info, void *context)
{
    if (previous.sa_flags & SA_SIGINFO)
        previous.sa_sigaction(number, info, context);
    else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)
        previous.sa_handler(number);
    else
        end_program();
}

static void explain(const void *pointer)
{
    const char *what =
        process_zero_owns(pointer) ? "a block of no bytes" : process_fence_explain(pointer);
    if (what)
        process_say("access", pointer, what);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    bool access = info->si_code == SEGV_ACCERR;
    bool guarded = access && neomm_heap_fault(process.root, info->si_addr);
    if (!guarded && access)
        explain(info->si_addr);
    if (!guarded || process.options.bad_free_aborts)
        hand_on(number, info, context);
    errno = saved;
}

bool process_fault_start(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    return sigaction(SIGSEGV, &action, &previous) == 0;
}
