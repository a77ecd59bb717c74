/* Making and ending a root, and what the base does over all layers.
 * SPDX-License-Identifier: MIT */
#include "root.h"

#include "bits.h"
#include "format.h"

#include <stdarg.h>

static const char *const status_text[] = {
#define TEXT(name, value, text) [-(value)] = text,
    NEOMM_STATUS_LIST(TEXT)
#undef TEXT
};

const char *neomm_status_text(neomm_status status)
{
    int index = -(int)status;
    if (index < 0 || (size_t)index >= NEOMM__COUNT_OF(status_text))
        return "unknown status";
    return status_text[index];
}

size_t neomm_root_size(uint32_t cpus)
{
    if (cpus == 0 || cpus > NEOMM_CPU_MAX)
        return 0;
    return sizeof(struct neomm) + cpus * sizeof(struct neomm__cpu_state);
}

/* An area is whole pages and does not wrap; its end may be the top of the address space. */
static neomm_status check_area(const struct neomm_area *area)
{
    if (!NEOMM__ALIGNED(area->base, NEOMM_PAGE_SIZE) ||
        !NEOMM__ALIGNED(area->size, NEOMM_PAGE_SIZE))
        return NEOMM_E_ALIGN;
    if (area->size != 0 && area->base + (area->size - 1) < area->base)
        return NEOMM_E_RANGE;
    return NEOMM_OK;
}

static bool areas_overlap(const struct neomm_area *a, const struct neomm_area *b)
{
    return a->size != 0 && b->size != 0 && a->base <= b->base + (b->size - 1) &&
           b->base <= a->base + (a->size - 1);
}

/* What holds for every format; src/arch checks the rest in neomm_layout_check. */
static neomm_status check_layout(const struct neomm_layout *layout)
{
    const struct neomm_area *area[] = {&layout->direct, &layout->window, &layout->slots,
                                       &layout->image};
    struct neomm_area user = {layout->user_base, layout->user_limit - layout->user_base, 0};
    if (layout->user_limit < layout->user_base)
        return NEOMM_E_RANGE;
    for (size_t i = 0; i < NEOMM__COUNT_OF(area); i++) {
        neomm_status status = check_area(area[i]);
        if (status != NEOMM_OK)
            return status;
        if (areas_overlap(area[i], &user))
            return NEOMM_E_RANGE;
        for (size_t j = 0; j < i; j++)
            if (areas_overlap(area[i], area[j]))
                return NEOMM_E_RANGE;
    }
    return layout->direct.size == 0 ? NEOMM_E_INVALID : NEOMM_OK;
}

neomm_status neomm_init(void *memory, size_t size, const struct neomm_options *options,
                        struct neomm **root)
{
    if (!memory || !options || !root || neomm_root_size(options->cpus) == 0)
        return NEOMM_E_INVALID;
    if (!NEOMM__ALIGNED((uintptr_t)memory, _Alignof(struct neomm)))
        return NEOMM_E_ALIGN;
    if (size < neomm_root_size(options->cpus))
        return NEOMM_E_NOMEM;
    neomm_status status = check_layout(&options->layout);
    if (status != NEOMM_OK)
        return status;
    struct neomm *made = memory;
    memset(made, 0, neomm_root_size(options->cpus));
    made->magic = NEOMM__ROOT_MAGIC;
    made->cpus = options->cpus;
    made->layout = options->layout;
    made->epoch = 1;
    if (options->config)
        made->config = *options->config;
    else
        neomm_config_default(&made->config);
    *root = made;
    return NEOMM_OK;
}

neomm_status neomm_fini(struct neomm *root)
{
    for (unsigned i = 0; i < NEOMM__LAYERS; i++)
        if (root->layer[i])
            return NEOMM_E_BUSY;
    root->magic = 0;
    return NEOMM_OK;
}

const struct neomm_layout *neomm_layout_of(const struct neomm *root)
{
    return &root->layout;
}

size_t neomm_fsck(struct neomm *root, neomm_report_fn *line, void *context)
{
    struct neomm__report report = {line, context, 0};
    if (root->magic != NEOMM__ROOT_MAGIC) {
        neomm__report(&report, "root: not a root (magic %#x)", root->magic);
        return report.findings;
    }
    for (unsigned i = 0; i < NEOMM__LAYERS; i++)
        if (root->layer[i])
            root->layer[i]->fsck(root, &report);
    return report.findings;
}

uint64_t neomm__counter_sum(const struct neomm *root, enum neomm_counter counter)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < root->cpus; i++)
        sum += __atomic_load_n(&root->cpu[i].counter[counter], __ATOMIC_RELAXED);
    return sum;
}

void neomm_snapshot_take(struct neomm *root, struct neomm_snapshot *snapshot)
{
    memset(snapshot, 0, sizeof(*snapshot));
    snapshot->magic = NEOMM_SNAPSHOT_MAGIC;
    snapshot->version = NEOMM_SNAPSHOT_VERSION;
    snapshot->size = (uint32_t)sizeof(*snapshot);
    snapshot->cpus = root->cpus;
    snapshot->format = (uint32_t)root->layout.format;
    for (unsigned i = 0; i < NEOMM_COUNTERS; i++)
        snapshot->counter[i] = neomm__counter_sum(root, (enum neomm_counter)i);
    for (unsigned i = 0; i < NEOMM__LAYERS; i++) {
        if (!root->layer[i])
            continue;
        snapshot->layers |= 1u << i;
        root->layer[i]->snapshot(root, snapshot);
    }
}

void neomm__report(struct neomm__report *report, const char *format, ...)
{
    char line[NEOMM__LINE_MAX];
    va_list arguments;
    report->findings++;
    if (!report->line)
        return;
    va_start(arguments, format);
    neomm__vformat(line, sizeof(line), format, arguments);
    va_end(arguments);
    report->line(report->context, line);
}

void neomm__log(enum neomm_log_level level, const char *format, ...)
{
    char line[NEOMM__LINE_MAX];
    va_list arguments;
    if (level > NEOMM_LOG_MAX)
        return;
    va_start(arguments, format);
    size_t length = neomm__vformat(line, sizeof(line), format, arguments);
    va_end(arguments);
    neomm_port_log(level, line, length);
}

void neomm__panic(const char *format, ...)
{
    char line[NEOMM__LINE_MAX];
    va_list arguments;
    va_start(arguments, format);
    neomm__vformat(line, sizeof(line), format, arguments);
    va_end(arguments);
    neomm_port_panic(line);
}
