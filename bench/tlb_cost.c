/* neomm-tlb-cost: what an invalidation of one page costs on this machine, and what a full one costs
 * later; from a user program, so that nothing has to be booted.
 * SPDX-License-Identifier: MIT
 *
 * Linux invalidates up to tlb_single_page_flush_ceiling pages one by one (33, in debugfs under
 * x86), and everything where more have changed. mprotect of a page less or more differs in that
 * alone:
 *
 *   one by one   what mprotect takes for CEILING pages less what it takes for one more
 *   a refill     what a walk over pages takes after mprotect, less what it takes without
 *
 * The walk is a chain of pointers in random order, so no two refills overlap. The threshold at
 * which the two cost the same is what neomm_paging_options.flush_pages is to be.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE    4096u
#define CEILING 33u
#define RUNS    2001u
#define WALKED  1536u

static char *changed, *walked;

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times)
{
    qsort(times, RUNS, sizeof(*times), compare);
    return times[RUNS / 2];
}

/* Small pages, all of them there. */
static char *pages(unsigned count)
{
    char *memory = mmap(NULL, (size_t)count * PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    (void)madvise(memory, (size_t)count * PAGE, MADV_NOHUGEPAGE);
    for (unsigned i = 0; i < count; i++)
        memory[(size_t)i * PAGE] = 1;
    return memory;
}

static void protect(unsigned count, int rights)
{
    if (mprotect(changed, (size_t)count * PAGE, rights) != 0)
        abort();
}

static void use(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        *(volatile char *)&changed[(size_t)i * PAGE] = 2;
}

static double protect_time(unsigned count)
{
    static double times[RUNS];
    for (unsigned run = 0; run < RUNS; run++) {
        use(count);
        double start = now();
        protect(count, PROT_READ);
        times[run] = now() - start;
        protect(count, PROT_READ | PROT_WRITE);
    }
    return median(times);
}

/* ---- the walk ---- */

static void **link_of(unsigned page)
{
    return (void **)(void *)(walked + (size_t)page * PAGE + page % 64 * 64);
}

static void make_chain(unsigned count)
{
    static unsigned order[WALKED];
    for (unsigned i = 0; i < count; i++)
        order[i] = i;
    for (unsigned i = count - 1; i > 0; i--) {
        unsigned j = (unsigned)rand() % (i + 1), other = order[i];
        order[i] = order[j];
        order[j] = other;
    }
    for (unsigned i = 0; i < count; i++)
        *link_of(order[i]) = link_of(order[(i + 1) % count]);
}

static double walk_time(unsigned count)
{
    void **at = link_of(0);
    double start = now();
    for (unsigned i = 0; i < count; i++)
        at = *at;
    __asm__ volatile("" : : "r"(at));
    return now() - start;
}

/* `change` pages lose a right before the walk; 0: the same calls, to no effect. */
static double walk_after(unsigned count, unsigned change)
{
    static double times[RUNS];
    for (unsigned run = 0; run < RUNS; run++) {
        use(CEILING + 1);
        (void)walk_time(count);
        (void)walk_time(count);
        protect(change ? change : 1, change ? PROT_READ : PROT_READ | PROT_WRITE);
        times[run] = walk_time(count);
        protect(CEILING + 1, PROT_READ | PROT_WRITE);
    }
    return median(times);
}

static void report(unsigned count, double one)
{
    make_chain(count);
    double warm = walk_after(count, 0), few = walk_after(count, 1);
    double cold = walk_after(count, CEILING + 1);
    (void)printf("%6u %10.0f %12.0f %12.0f %10.0f\n", count, warm, few - warm, cold - warm,
                 (cold - warm) / one);
}

int main(void)
{
    static const unsigned counts[] = {64, 128, 256, 512, 1024, WALKED};
    changed = pages(CEILING + 1);
    walked = pages(WALKED);
    if (!changed || !walked) {
        (void)fprintf(stderr, "neomm-tlb-cost: no memory\n");
        return 1;
    }
    double by_one = protect_time(CEILING), all = protect_time(CEILING + 1);
    double one = (by_one - all) / (CEILING - 1);
    if (one <= 0) {
        (void)printf("this kernel makes no difference at %u pages: nothing to be learned\n",
                     CEILING);
        return 0;
    }
    (void)printf("invalidating a page: %.0f ns\n\n", one);
    (void)printf("%6s %10s %12s %12s %10s\n", "pages", "warm ns", "after one", "after all",
                 "threshold");
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        report(counts[i], one);
    return 0;
}
