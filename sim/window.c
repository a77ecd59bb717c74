/* The kernel window and the slots in the host process: a range without access, whose pages a
 * SIGSEGV handler maps from the simulated walk and an invalidation takes away again.
 * SPDX-License-Identifier: MIT */
#include "machine.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define WINDOW_BYTES_MAX ((uint64_t)16 << 30)
#define PF_WRITE         2 /* of the host's page-fault error code */
#define PF_FETCH         16

/* The handler runs where the program touched a window, never inside the C library, so it may do
 * what handlers in general must not. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "report_signal_unsafe=0";
}

static struct sigaction handler_before;
static pthread_once_t handler_once = PTHREAD_ONCE_INIT;

static bool map_empty(void *at, size_t size)
{
    return mmap(at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
                0) != MAP_FAILED;
}

static size_t page_of(size_t bytes)
{
    return bytes >> NEOMM_PAGE_SHIFT;
}

/* ---- forgetting ---- */

static void forget_pages(struct sim *sim, struct sim_window *window, size_t first, size_t last)
{
    first = first > window->first ? first : window->first;
    last = last < window->last ? last : window->last;
    if (first >= last || window->mapped == 0)
        return;
    for (size_t page = first; page < last; page++) {
        if (window->state[page]) {
            window->state[page] = 0;
            window->mapped--;
        }
    }
    if (!map_empty(window->host + (first << NEOMM_PAGE_SHIFT), (last - first) << NEOMM_PAGE_SHIFT))
        sim_crash(sim, true, "sim: the host refused to unmap a window page");
    if (window->mapped == 0)
        window->first = window->last = 0;
}

void sim_window_forget(struct sim *sim, neomm_vaddr_t vaddr, size_t size)
{
    for (unsigned i = 0; i < SIM_WINDOWS; i++) {
        struct sim_window *window = &sim->window[i];
        if (window->size == 0 || vaddr >= window->base + window->size || size <= 0 ||
            vaddr + (size - 1) < window->base)
            continue;
        neomm_vaddr_t from = vaddr > window->base ? vaddr - window->base : 0;
        neomm_vaddr_t to = vaddr + (size - 1) - window->base;
        to = to < window->size ? to : window->size - 1;
        sim_lock(sim);
        forget_pages(sim, window, page_of(from), page_of(to) + 1);
        sim_unlock(sim);
    }
}

void sim_window_forget_all(struct sim *sim)
{
    sim_lock(sim);
    for (unsigned i = 0; i < SIM_WINDOWS; i++)
        forget_pages(sim, &sim->window[i], 0, page_of(sim->window[i].size));
    sim_unlock(sim);
}

/* ---- first use ---- */

static void note_mapped(struct sim_window *window, size_t page, int rights)
{
    if (!window->state[page])
        window->mapped++;
    window->state[page] = (uint8_t)rights;
    if (window->last == 0 || page < window->first)
        window->first = page;
    if (page >= window->last)
        window->last = page + 1;
}

static void map_page(struct sim *sim, struct sim_window *window, size_t page, neomm_paddr_t paddr,
                     int rights)
{
    void *at = window->host + (page << NEOMM_PAGE_SHIFT);
    off_t from = (off_t)(paddr & ~(neomm_paddr_t)(NEOMM_PAGE_SIZE - 1));
    sim_lock(sim);
    void *done = mmap(at, NEOMM_PAGE_SIZE, rights, MAP_SHARED | MAP_FIXED, sim->fd, from);
    if (done == MAP_FAILED) {
        /* The host's limit on mappings: forgetting all is always right. */
        sim_window_forget_all(sim);
        done = mmap(at, NEOMM_PAGE_SIZE, rights, MAP_SHARED | MAP_FIXED, sim->fd, from);
    }
    if (done != MAP_FAILED)
        note_mapped(window, page, rights);
    sim_unlock(sim);
    if (done == MAP_FAILED)
        sim_crash(sim, true, "sim: the host refused to map a window page");
}

static void reference(struct sim *sim, struct sim_window *window, size_t offset,
                      enum sim_access access)
{
    static const char *const verb[] = {"read", "write", "fetch"};
    neomm_vaddr_t vaddr = window->base + offset;
    neomm_paddr_t paddr = 0;
    uint32_t error = 0;
    char text[128];
    bool entered = sim_cpu_enter(sim);
    bool there = sim_translate(sim, vaddr, access, false, &paddr, &error);
    if (there && access != SIM_FETCH && sim_pointer(sim, paddr))
        map_page(sim, window, page_of(offset), paddr,
                 access == SIM_WRITE ? PROT_READ | PROT_WRITE : PROT_READ);
    sim_cpu_leave(entered);
    if (there && access != SIM_FETCH && sim_pointer(sim, paddr))
        return;
    if (!there && sim->fault && sim->fault(sim->fault_context, vaddr, error))
        return; /* the instruction runs again */
    (void)snprintf(text, sizeof(text), "kernel %s at %#llx faults (error %#x%s)", verb[access],
                   (unsigned long long)vaddr, error, there ? ", no memory there" : "");
    sim_crash(sim, false, text);
}

static void chain(int number, siginfo_t *info, void *context)
{
    if (handler_before.sa_flags & SA_SIGINFO)
        handler_before.sa_sigaction(number, info, context);
    else if (handler_before.sa_handler != SIG_DFL && handler_before.sa_handler != SIG_IGN)
        handler_before.sa_handler(number);
    else
        (void)signal(number, SIG_DFL); /* the instruction runs again, and ends the program */
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    struct sim *sim = sim_place.sim;
    const ucontext_t *state = context;
    long long code = state->uc_mcontext.gregs[REG_ERR];
    enum sim_access access = code & PF_FETCH ? SIM_FETCH : code & PF_WRITE ? SIM_WRITE : SIM_READ;
    for (unsigned i = 0; sim && i < SIM_WINDOWS; i++) {
        size_t offset = (size_t)((uintptr_t)info->si_addr - (uintptr_t)sim->window[i].host);
        if (offset < sim->window[i].size) {
            reference(sim, &sim->window[i], offset, access);
            return;
        }
    }
    chain(number, info, context);
}

static void install_handler(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    (void)sigaction(SIGSEGV, &action, &handler_before);
}

/* ---- making ---- */

static bool make_window(struct sim_window *window, struct neomm_area *area)
{
    void *host =
        mmap(NULL, area->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (host == MAP_FAILED)
        return false;
    window->host = host;
    window->base = area->base;
    window->size = area->size;
    area->delta = (intptr_t)((uintptr_t)host - area->base);
    void *state = mmap(NULL, page_of(area->size) + 1, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    window->state = state == MAP_FAILED ? NULL : state;
    return window->state != NULL;
}

bool sim_windows_create(struct sim *sim)
{
    struct neomm_layout *layout = &sim->layout;
    uint64_t most = sim->options.window_bytes ? sim->options.window_bytes : WINDOW_BYTES_MAX;
    (void)pthread_once(&handler_once, install_handler);
    if (neomm_layout_default(sim->options.format, sim->options.ram_bytes, layout) != NEOMM_OK) {
        layout->direct.size = 0;
        return true;
    }
    if (sim->options.page_zero)
        layout->user_base = 0;
    layout->physical_bits = sim->options.physical_bits;
    layout->direct.delta = (intptr_t)((uintptr_t)sim->ram - layout->direct.base);
    if (layout->window.size > most)
        layout->window.size = (size_t)most;
    return make_window(&sim->window[SIM_WINDOW], &layout->window) &&
           make_window(&sim->window[SIM_SLOTS], &layout->slots);
}

void sim_windows_destroy(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_WINDOWS; i++) {
        struct sim_window *window = &sim->window[i];
        if (window->host)
            (void)munmap(window->host, window->size);
        if (window->state)
            (void)munmap(window->state, page_of(window->size) + 1);
    }
}
