/* Memory pressure: the time that tasks wait for memory, and the level that listeners are told.
 * SPDX-License-Identifier: MIT
 *
 * Time is cut into periods of 2^31 ns, so that no division is needed: the number of a period is
 * now >> 31, and the time that was lost in one is its share of the period in 2^-31. At the end of
 * each period an average over w seconds becomes
 *
 *     average * f + share * (1 - f),    f = e^(-2^31 ns / w)
 *
 * as those of the load and of pressure are in Linux (kernel/sched/psi.c, there with periods of two
 * seconds). Nobody counts along: whoever comes next goes over the periods since the last one, in
 * which nothing changed, in one step with a power of f.
 */
#include "vmm/stall.h"
#include "vmm/vmm_priv.h"

#define PERIOD_SHIFT 31
#define PERIOD       ((uint32_t)1 << PERIOD_SHIFT)

/* f in 2^-32: 2^32 * e^(-2^31 / (10^9 w)) for w of 10, 60 and 300. */
static const uint32_t factor[3] = {3464940900u, 4143962878u, 4264332500u};

/* Pages tested between two looks at the level. */
#define WINDOW 256u

/* ---- averages ---- */

/* f^n, all in 2^-32: by squares. */
static uint64_t power(uint64_t f, uint64_t n)
{
    uint64_t result = (uint64_t)1 << 32;
    for (; n != 0 && result != 0; n >>= 1) {
        if (n & 1)
            result = (result * f) >> 32;
        f = (f * f) >> 32;
    }
    return result;
}

/* `periods` periods have ended in which the share was this. */
static void average(struct neomm__stalled *stalled, uint32_t share, uint64_t periods)
{
    for (unsigned i = 0; i < 3; i++) {
        uint64_t f = power(factor[i], periods);
        uint64_t rest = ((uint64_t)1 << 32) - f;
        stalled->average[i] = (uint32_t)((stalled->average[i] * f + share * rest + PERIOD) >> 32);
    }
}

static void advance(struct neomm__stalled *stalled, uint64_t from, uint64_t to)
{
    uint64_t periods = (to >> PERIOD_SHIFT) - (from >> PERIOD_SHIFT);
    if (stalled->going_on)
        stalled->total += to - from;
    if (periods == 0) {
        stalled->in_period += stalled->going_on ? (uint32_t)(to - from) : 0;
        return;
    }
    uint32_t rest = PERIOD - (uint32_t)(from & (PERIOD - 1));
    average(stalled, stalled->in_period + (stalled->going_on ? rest : 0), 1);
    if (periods > 1)
        average(stalled, stalled->going_on ? PERIOD : 0, periods - 1);
    stalled->in_period = stalled->going_on ? (uint32_t)(to & (PERIOD - 1)) : 0;
}

/* With the lock. */
static void bring_up(struct neomm__pressure *pressure)
{
    uint64_t now = neomm_port_now();
    if (now <= pressure->now)
        return;
    advance(&pressure->some, pressure->now, now);
    advance(&pressure->full, pressure->now, now);
    pressure->now = now;
}

static void set_stalled(struct neomm *root, uint32_t stalled, uint32_t tasks)
{
    struct neomm__pressure *pressure = &root->vmm->pressure;
    uint32_t all = tasks != 0 ? tasks : root->cpus;
    bring_up(pressure);
    pressure->stalled = stalled;
    pressure->tasks = tasks;
    pressure->some.going_on = stalled != 0;
    pressure->full.going_on = stalled != 0 && stalled >= all;
}

void neomm__stall_begin(struct neomm *root)
{
    struct neomm__pressure *pressure = &root->vmm->pressure;
    neomm_irq_t irq = neomm__lock(&pressure->lock);
    set_stalled(root, pressure->stalled + 1, pressure->tasks);
    neomm__unlock(&pressure->lock, irq);
}

void neomm__stall_end(struct neomm *root)
{
    struct neomm__pressure *pressure = &root->vmm->pressure;
    neomm_irq_t irq = neomm__lock(&pressure->lock);
    set_stalled(root, pressure->stalled - 1, pressure->tasks);
    neomm__unlock(&pressure->lock, irq);
}

void neomm_pressure_set_tasks(struct neomm *root, uint32_t tasks)
{
    struct neomm__pressure *pressure = root->vmm ? &root->vmm->pressure : NULL;
    if (!pressure)
        return;
    neomm_irq_t irq = neomm__lock(&pressure->lock);
    set_stalled(root, pressure->stalled, tasks);
    neomm__unlock(&pressure->lock, irq);
}

static void show(const struct neomm__stalled *stalled, struct neomm_stall *to)
{
    to->total = stalled->total;
    for (unsigned i = 0; i < 3; i++)
        to->average[i] =
            (uint32_t)(((uint64_t)stalled->average[i] * 10000 + PERIOD / 2) >> PERIOD_SHIFT);
}

void neomm_pressure_get(struct neomm *root, struct neomm_pressure *to)
{
    struct neomm__vmm *vmm = root->vmm;
    *to = (struct neomm_pressure){.level = NEOMM_PRESSURE_NONE};
    if (!vmm)
        return;
    neomm_irq_t irq = neomm__lock(&vmm->pressure.lock);
    bring_up(&vmm->pressure);
    to->level = vmm->pressure.level;
    to->stalled = vmm->pressure.stalled;
    show(&vmm->pressure.some, &to->some);
    show(&vmm->pressure.full, &to->full);
    neomm__unlock(&vmm->pressure.lock, irq);
}

/* ---- the level ---- */

/* The lowest watermark of all zones. */
static enum neomm_watermark lowest(const struct neomm *root)
{
    enum neomm_watermark least = NEOMM_WATERMARK_HIGH;
    for (unsigned zone = 0; zone < NEOMM_ZONES; zone++) {
        enum neomm_watermark mark = neomm_pmm_watermark(root, (enum neomm_zone)zone);
        least = mark < least ? mark : least;
    }
    return least;
}

/* What the figures since the last look say; with the lock. */
static uint32_t level_now(const struct neomm *root, const struct neomm__pressure *pressure)
{
    enum neomm_watermark mark = lowest(root);
    uint64_t scanned = pressure->scanned, vain = scanned - pressure->freed;
    if (mark == NEOMM_WATERMARK_HIGH)
        return NEOMM_PRESSURE_NONE;
    if (mark == NEOMM_WATERMARK_LOW)
        return pressure->level != NEOMM_PRESSURE_NONE ? NEOMM_PRESSURE_LOW : NEOMM_PRESSURE_NONE;
    if (pressure->exhausted || (pressure->scanned >= WINDOW && 20 * vain >= 19 * scanned))
        return NEOMM_PRESSURE_CRITICAL;
    return pressure->scanned >= WINDOW && 5 * vain >= 3 * scanned ? NEOMM_PRESSURE_MEDIUM
                                                                  : NEOMM_PRESSURE_LOW;
}

/* With the lock. */
static void set_level(struct neomm__pressure *pressure, uint32_t level)
{
    pressure->lower = level < pressure->level ? pressure->lower + 1 : 0;
    if (level > pressure->level) {
        neomm__store_release(&pressure->level, level);
    } else if (pressure->lower == 2) {
        neomm__store_release(&pressure->level, pressure->level - 1);
        pressure->lower = 0;
    }
    pressure->scanned = pressure->freed = 0;
    pressure->exhausted = false;
}

/* ---- listeners ---- */

/* The listener, and the level if that is another one than they know. */
static bool next_call(struct neomm__pressure *pressure, unsigned i, struct neomm__listener *who)
{
    neomm_irq_t irq = neomm__lock(&pressure->lock);
    *who = pressure->listener[i];
    neomm__unlock(&pressure->lock, irq);
    return who->call != NULL;
}

static bool is_new(struct neomm__pressure *pressure, uint32_t *level)
{
    neomm_irq_t irq = neomm__lock(&pressure->lock);
    *level = pressure->level;
    bool changed = *level != pressure->told;
    neomm__store_release(&pressure->told, *level);
    neomm__unlock(&pressure->lock, irq);
    return changed;
}

static void let_others_tell(struct neomm__pressure *pressure)
{
    neomm__store_release(&pressure->telling, 0);
    neomm_port_wake(&pressure->telling, UINT32_MAX);
}

static bool is_told(const struct neomm__pressure *pressure)
{
    return neomm__load_acquire(&pressure->level) == neomm__load_acquire(&pressure->told);
}

/* Who finds somebody else at it leaves it to him: he looks once more after he has let go. */
static void tell(struct neomm__pressure *pressure)
{
    uint32_t level;
    while (!is_told(pressure) && neomm__exchange(&pressure->telling, 1) == 0) {
        while (is_new(pressure, &level)) {
            struct neomm__listener who;
            for (unsigned i = 0; i < NEOMM__LISTENERS; i++)
                if (next_call(pressure, i, &who))
                    who.call(who.context, (enum neomm_pressure_level)level);
        }
        let_others_tell(pressure);
    }
}

void neomm__pressure_look(struct neomm *root)
{
    struct neomm__pressure *pressure = &root->vmm->pressure;
    neomm_irq_t irq = neomm__lock(&pressure->lock);
    set_level(pressure, level_now(root, pressure));
    neomm__unlock(&pressure->lock, irq);
    tell(pressure);
}

void neomm__pressure_scanned(struct neomm *root, uint32_t scanned, uint32_t freed, bool exhausted)
{
    struct neomm__pressure *pressure = &root->vmm->pressure;
    neomm_irq_t irq = neomm__lock(&pressure->lock);
    pressure->scanned += scanned;
    pressure->freed += freed < scanned ? freed : scanned;
    pressure->exhausted |= exhausted;
    bool look = pressure->scanned >= WINDOW || pressure->exhausted;
    neomm__unlock(&pressure->lock, irq);
    if (look)
        neomm__pressure_look(root);
}

/* The index of the pair, or NEOMM__LISTENERS; with the lock. */
static unsigned find(const struct neomm__pressure *pressure, neomm_pressure_fn *call, void *context)
{
    unsigned i = 0;
    while (i < NEOMM__LISTENERS && (pressure->listener[i].call != call ||
                                    (call && pressure->listener[i].context != context)))
        i++;
    return i;
}

neomm_status neomm_pressure_register(struct neomm *root, neomm_pressure_fn *call, void *context)
{
    struct neomm__pressure *pressure = root->vmm ? &root->vmm->pressure : NULL;
    if (!pressure)
        return NEOMM_E_NOENT;
    neomm_status status = NEOMM_OK;
    neomm_irq_t irq = neomm__lock(&pressure->lock);
    unsigned free = find(pressure, NULL, NULL);
    if (find(pressure, call, context) < NEOMM__LISTENERS)
        status = NEOMM_E_EXISTS;
    else if (free == NEOMM__LISTENERS)
        status = NEOMM_E_NOSPACE;
    else
        pressure->listener[free] = (struct neomm__listener){call, context};
    neomm__unlock(&pressure->lock, irq);
    return status;
}

/* A call that is under way was taken from the list before. */
static void wait_for_calls(struct neomm__pressure *pressure)
{
    while (neomm__exchange(&pressure->telling, 1) != 0)
        (void)neomm_port_wait(&pressure->telling, 1, UINT64_MAX);
    let_others_tell(pressure);
    tell(pressure);
}

neomm_status neomm_pressure_unregister(struct neomm *root, neomm_pressure_fn *call, void *context)
{
    struct neomm__pressure *pressure = root->vmm ? &root->vmm->pressure : NULL;
    if (!pressure || !call)
        return NEOMM_E_NOENT;
    neomm_irq_t irq = neomm__lock(&pressure->lock);
    unsigned i = find(pressure, call, context);
    if (i < NEOMM__LISTENERS)
        pressure->listener[i] = (struct neomm__listener){NULL, NULL};
    neomm__unlock(&pressure->lock, irq);
    if (i == NEOMM__LISTENERS)
        return NEOMM_E_NOENT;
    wait_for_calls(pressure);
    return NEOMM_OK;
}

/* ---- the rest ---- */

void neomm__pressure_init(struct neomm__pressure *pressure)
{
    neomm__lock_init(&pressure->lock, NEOMM_LOCK_CLASS_PRESSURE);
    pressure->now = neomm_port_now();
}
