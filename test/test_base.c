/* Tests of the base layer: text, numbers, frame lists, the root.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "base/bits.h"
#include "base/format.h"
#include "base/root.h"
#include "sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- text ---- */

static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state += 0x9e3779b97f4a7c15u;
    return neomm__mix(random_state);
}

/* Everything except what format.h says differs: 0 under "#x". */
static void expect_text(struct ktap *t, const char *ours, const char *theirs, const char *format)
{
    if (strcmp(ours, theirs) != 0) {
        ktap_note(t, "format \"%s\": have \"%s\", want \"%s\"", format, ours, theirs);
        ktap_fail(t, __FILE__, __LINE__, "format as printf does");
    }
}

#define SAME(...)                                                                                  \
    do {                                                                                           \
        (void)neomm__format(ours, sizeof(ours), __VA_ARGS__);                                      \
        (void)snprintf(theirs, sizeof(theirs), __VA_ARGS__);                                       \
    } while (0)

/* One conversion with one value, at every length modifier. */
static void try_number(struct ktap *t, const char *prefix, char letter, uint64_t value)
{
    static const char *const lengths[] = {"", "l", "ll", "z"};
    char format[32], ours[128], theirs[128];
    for (unsigned i = 0; i < 4; i++) {
        (void)snprintf(format, sizeof(format), "[%%%s%s%c]", prefix, lengths[i], letter);
        switch (i) {
        case 0:
            SAME(format, (unsigned)value);
            break;
        case 1:
            SAME(format, (unsigned long)value);
            break;
        case 2:
            SAME(format, (unsigned long long)value);
            break;
        default:
            SAME(format, (size_t)value);
        }
        expect_text(t, ours, theirs, format);
    }
}

static void format_numbers(struct ktap *t)
{
    static const char *const flags[] = {"", "-", "0", "-0"};
    static const char *const widths[] = {"", "1", "2", "7", "19", "40"};
    static const uint64_t values[] = {0,          1,          9,          10,
                                      255,        0x7fffffff, 0x80000000, 0xffffffff,
                                      UINT64_MAX, INT64_MAX,  1ull << 63, 0x123456789abcdef0};
    char prefix[16];
    for (unsigned f = 0; f < 4 * 6 * 12; f++) {
        uint64_t value = values[f / 24];
        (void)snprintf(prefix, sizeof(prefix), "%s%s", flags[f % 4], widths[f / 4 % 6]);
        /* size_t has no signed conversion here */
        try_number(t, prefix, 'u', value);
        try_number(t, prefix, 'x', value);
        (void)snprintf(prefix, sizeof(prefix), "#%s%s", flags[f % 4], widths[f / 4 % 6]);
        if ((uint32_t)value != 0 && (size_t)value != 0)
            try_number(t, prefix, 'x', value);
    }
}

static void try_signed(struct ktap *t, const char *format, int width, int value, long long wide)
{
    char full[64], ours[128], theirs[128];
    (void)snprintf(full, sizeof(full), "%%%sd", format);
    SAME(full, value);
    expect_text(t, ours, theirs, full);
    (void)snprintf(full, sizeof(full), "%%%slld|", format);
    SAME(full, wide);
    expect_text(t, ours, theirs, full);
    (void)snprintf(full, sizeof(full), "%%%sld|", format);
    SAME(full, (long)wide);
    expect_text(t, ours, theirs, full);
    SAME("%*d|%-*d|%0*d", width, value, width, value, width > 0 ? width : 0, value);
    expect_text(t, ours, theirs, "%*d");
}

static void format_signed(struct ktap *t)
{
    static const char *const prefixes[] = {"", "5", "05", "-5", "20", "020", "-20"};
    random_state = 1;
    for (unsigned i = 0; i < 7; i++) {
        try_signed(t, prefixes[i], -9, INT_MIN, LLONG_MIN);
        try_signed(t, prefixes[i], 0, INT_MAX, LLONG_MAX);
        for (unsigned j = 0; j < 50; j++) {
            uint64_t x = next_random();
            try_signed(t, prefixes[i], (int)(x % 40) - 20, (int)(x >> (x % 32)),
                       (long long)(x >> (x % 64)));
        }
    }
}

static void format_strings(struct ktap *t)
{
    static const char *const formats[] = {"%s",    "%.0s",   "%.3s",    "%10s",
                                          "%-9s|", "%9.2s|", "%-9.2s|", "%.99s"};
    static const char *const values[] = {"", "a", "frame", "0123456789abcdef"};
    const char *volatile nothing = NULL; /* unseen by the compiler's format check */
    char ours[128], theirs[128];
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned j = 0; j < 4; j++) {
            SAME(formats[i], values[j]);
            expect_text(t, ours, theirs, formats[i]);
        }
    }
    SAME("%.*s|%*s|%c%3c|%-3c|%%|%p", 2, "frame", -8, "x", 'a', 'b', 'c', (void *)&ours);
    expect_text(t, ours, theirs, "%.*s and others");
    (void)neomm__format(ours, sizeof(ours), "%s", nothing);
    expect_text(t, ours, "(null)", "%s of NULL");
    (void)neomm__format(ours, sizeof(ours), "%p %#x", NULL, 0u);
    expect_text(t, ours, "0x0 0x0", "%p of NULL");
}

static void format_cuts(struct ktap *t)
{
    static const char whole[] = "frame 0x2a of 7";
    char text[32];
    for (size_t size = 0; size <= sizeof(text); size++) {
        memset(text, '#', sizeof(text));
        size_t length = neomm__format(text, size, "frame %#x of %d", 42u, 7);
        size_t want = size == 0 ? 0 : size - 1 < strlen(whole) ? size - 1 : strlen(whole);
        EXPECT_EQ(t, length, want);
        EXPECT(t, memcmp(text, whole, want) == 0);
        EXPECT(t, size == 0 || text[want] == '\0');
        for (size_t i = size; i < sizeof(text); i++)
            EXPECT(t, text[i] == '#');
    }
}

/* ---- numbers ---- */

static void divide(struct ktap *t)
{
    static const uint32_t edges[] = {1, 2, 3, 10, 16, 255, 256, 32767, 32768, 65535};
    random_state = 2;
    for (int i = 0; i < 200000; i++) {
        uint64_t x = next_random();
        uint64_t n = i % 16 == 0 ? UINT64_MAX - (x & 3) : x >> (x & 63);
        uint32_t d = i % 2 ? edges[(size_t)i / 2 % 10] : (uint32_t)(x >> 40 & 0xffff) | 1, rest;
        ASSERT(t, neomm__divide(n, d, &rest) == n / d && rest == n % d);
        ASSERT(t, neomm__divide(n, d, NULL) == n / d);
    }
}

static void bit_counts(struct ktap *t)
{
    random_state = 3;
    for (int i = 0; i < 100000; i++) {
        uint64_t r = next_random();
        neomm__word_t x = (neomm__word_t)(r >> (r & 31)) | 1u << (r >> 8 & 31);
        unsigned lowest = 0, highest = 0, count = 0;
        for (unsigned bit = NEOMM__WORD_BITS; bit-- > 0;)
            if (x >> bit & 1)
                lowest = bit;
        for (unsigned bit = 0; bit < NEOMM__WORD_BITS; bit++) {
            count += (unsigned)(x >> bit & 1);
            if (x >> bit & 1)
                highest = bit;
        }
        ASSERT(t, neomm__lowest_bit(x) == lowest && neomm__highest_bit(x) == highest);
        ASSERT(t, neomm__popcount(x) == count);
    }
    for (size_t x = 0; x < 5000; x++) {
        unsigned n = 0;
        while (((size_t)1 << n) < x)
            n++;
        EXPECT_EQ(t, neomm__log2_up(x), n);
        EXPECT_EQ(t, neomm__pages(x), (x + 4095) / 4096);
        EXPECT_EQ(t, NEOMM__ALIGN_UP(x, 64), (x + 63) / 64 * 64);
        EXPECT_EQ(t, NEOMM__ALIGN_DOWN(x, 64), x / 64 * 64);
        EXPECT_EQ(t, NEOMM__ALIGNED(x, 64), x % 64 == 0);
    }
    EXPECT_EQ(t, neomm__pages(SIZE_MAX), SIZE_MAX / 4096 + 1);
}

/* ---- frames ---- */

static void frame_sections(struct ktap *t)
{
    uint32_t section[] = {0, neomm__section_entry(1, 0), 0, neomm__section_entry(3, 1)};
    struct neomm__frame *table = calloc(2u << NEOMM__SECTION_SHIFT, sizeof(*table));
    struct neomm__frames frames = {table, section, 4, 0};
    ASSERT(t, table);
    for (uint32_t number = 0; number < 5u << NEOMM__SECTION_SHIFT; number++) {
        uint32_t in = number & (NEOMM__SECTION_FRAMES - 1);
        const struct neomm__frame *want = NULL;
        if (number >> NEOMM__SECTION_SHIFT == 1)
            want = &table[in];
        else if (number >> NEOMM__SECTION_SHIFT == 3)
            want = &table[NEOMM__SECTION_FRAMES + in];
        ASSERT(t, neomm__frame_at(&frames, neomm_frame(number)) == want);
    }
    ASSERT(t, neomm__frame_at(&frames, neomm_frame(UINT32_MAX)) == NULL);
    free(table);
}

static void frame_mapping(struct ktap *t)
{
    random_state = 4;
    for (int i = 0; i < 10000; i++) {
        uint64_t r = next_random();
        neomm_vaddr_t vaddr = (neomm_vaddr_t)(r >> 8 << NEOMM_PAGE_SHIFT & 0x00fffffffffff000u);
        uint32_t space = (uint32_t)(r >> 44);
        uint64_t mapping = neomm__mapping_make(space, vaddr);
        ASSERT(t, neomm__mapping_space(mapping) == space && neomm__mapping_vaddr(mapping) == vaddr);
    }
}

#define LIST_FRAMES 40u

/* The same operations on an array. */
struct list_model {
    uint32_t number[LIST_FRAMES];
    uint32_t count;
};

static void model_insert(struct list_model *model, uint32_t at, uint32_t number)
{
    memmove(&model->number[at + 1], &model->number[at],
            (model->count - at) * sizeof(model->number[0]));
    model->number[at] = number;
    model->count++;
}

static void model_remove(struct list_model *model, uint32_t at)
{
    model->count--;
    memmove(&model->number[at], &model->number[at + 1],
            (model->count - at) * sizeof(model->number[0]));
}

static bool list_is(const struct neomm__frames *frames, const struct neomm__frame_list *list,
                    const struct list_model *model)
{
    uint32_t at = list->head, before = 0;
    for (uint32_t i = 0; i < model->count; i++) {
        const struct neomm__frame *frame = neomm__frame_at(frames, neomm_frame(at));
        if (at != model->number[i] || frame->previous != before)
            return false;
        before = at;
        at = frame->next;
    }
    return at == 0 && list->tail == before && list->count == model->count;
}

static void step_list(const struct neomm__frames *frames, struct neomm__frame_list *list,
                      struct list_model *model, bool *inside)
{
    uint64_t r = next_random();
    uint32_t number = 1 + (uint32_t)(r >> 8) % (LIST_FRAMES - 1);
    if (!inside[number] && r & 1) {
        inside[number] = true;
        if (r & 2)
            neomm__frame_list_push_head(frames, list, neomm_frame(number));
        else
            neomm__frame_list_push_tail(frames, list, neomm_frame(number));
        model_insert(model, r & 2 ? 0 : model->count, number);
    } else if (inside[number]) {
        uint32_t at = 0;
        while (model->number[at] != number)
            at++;
        inside[number] = false;
        neomm__frame_list_remove(frames, list, neomm_frame(number));
        model_remove(model, at);
    }
}

static void frame_lists(struct ktap *t)
{
    uint32_t section[] = {neomm__section_entry(0, 0)};
    struct neomm__frame *table = calloc(NEOMM__SECTION_FRAMES, sizeof(*table));
    struct neomm__frames frames = {table, section, 1, 0};
    struct neomm__frame_list list = {0};
    struct list_model model = {{0}, 0};
    bool inside[LIST_FRAMES] = {false};
    ASSERT(t, table);
    random_state = t->parameter;
    for (int i = 0; i < 20000 && t->failures == 0; i++) {
        step_list(&frames, &list, &model, inside);
        EXPECT(t, list_is(&frames, &list, &model));
    }
    while (model.count > 0) {
        EXPECT_EQ(t, neomm__frame_list_pop(&frames, &list).number, model.number[0]);
        model_remove(&model, 0);
        EXPECT(t, list_is(&frames, &list, &model));
    }
    EXPECT(t, neomm_frame_is_nil(neomm__frame_list_pop(&frames, &list)));
    free(table);
}

static const uint64_t seeds[] = {1, 2, 3, 4};

/* ---- the root ---- */

static bool open_root(struct ktap *t, struct env *env, uint32_t cpus)
{
    static const enum neomm_format formats[] = ENV_FORMATS;
    struct env_options options = {.layer = ENV_ROOT, .format = formats[0], .cpus = cpus};
    return env_open(t, env, &options);
}

static void root_arguments(struct ktap *t)
{
    struct env env;
    ASSERT(t, open_root(t, &env, 2));
    struct neomm_options good = {.layout = *neomm_layout_of(env.root), .cpus = 2}, bad;
    size_t size = neomm_root_size(2);
    void *memory = aligned_alloc(64, (size + 63) / 64 * 64);
    struct neomm *root = NULL;
    ASSERT(t, memory);
    EXPECT_EQ(t, neomm_init(NULL, size, &good, &root), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_init(memory, size, NULL, &root), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_init(memory, size, &good, NULL), NEOMM_E_INVALID);
    EXPECT_EQ(t, neomm_init((char *)memory + 8, size, &good, &root), NEOMM_E_ALIGN);
    EXPECT_EQ(t, neomm_init(memory, size - 1, &good, &root), NEOMM_E_NOMEM);
    for (uint32_t cpus = 0; cpus <= NEOMM_CPU_MAX + 1; cpus += NEOMM_CPU_MAX + 1) {
        bad = good;
        bad.cpus = cpus;
        EXPECT_EQ(t, neomm_root_size(cpus), 0);
        EXPECT_EQ(t, neomm_init(memory, size, &bad, &root), NEOMM_E_INVALID);
    }
    EXPECT(t, root == NULL);
    memset(memory, 0xa5, size);
    EXPECT_OK(t, neomm_init(memory, size, &good, &root));
    EXPECT(t, (void *)root == memory && neomm_fsck(root, NULL, NULL) == 0);
    EXPECT_OK(t, neomm_fini(root));
    EXPECT_EQ(t, neomm_fsck(root, NULL, NULL), 1);
    free(memory);
    env_close(t, &env);
}

/* Each way to spoil a layout that was fine. */
static neomm_status init_with(const struct neomm_layout *layout)
{
    static _Alignas(64) char memory[65536];
    struct neomm_options options = {.layout = *layout, .cpus = 1};
    struct neomm *root;
    return neomm_init(memory, sizeof(memory), &options, &root);
}

static void layout_mistakes(struct ktap *t)
{
    struct env env;
    ASSERT(t, open_root(t, &env, 1));
    struct neomm_layout good = *neomm_layout_of(env.root), bad;
    struct neomm_area *const areas[] = {&bad.direct, &bad.window, &bad.slots};
    EXPECT_OK(t, init_with(&good));
    for (unsigned i = 0; i < 3; i++) {
        bad = good;
        areas[i]->base += 1;
        EXPECT_EQ(t, init_with(&bad), NEOMM_E_ALIGN);
        bad = good;
        areas[i]->size -= 1;
        EXPECT_EQ(t, init_with(&bad), NEOMM_E_ALIGN);
        bad = good;
        areas[i]->size = SIZE_MAX - NEOMM_PAGE_SIZE + 1;
        EXPECT_EQ(t, init_with(&bad), NEOMM_E_RANGE);
        bad = good;
        areas[i]->base = good.user_base & ~(NEOMM_PAGE_SIZE - 1);
        areas[i]->size = NEOMM_PAGE_SIZE;
        EXPECT_EQ(t, init_with(&bad), NEOMM_E_RANGE);
        bad = good;
        areas[i]->base = areas[(i + 1) % 3]->base;
        EXPECT_EQ(t, init_with(&bad), NEOMM_E_RANGE);
    }
    bad = good;
    bad.user_limit = bad.user_base - 1;
    EXPECT_EQ(t, init_with(&bad), NEOMM_E_RANGE);
    bad = good;
    bad.direct.size = 0;
    EXPECT(t, init_with(&bad) != NEOMM_OK);
    env_close(t, &env);
}

static void collect(void *context, const char *line)
{
    (void)snprintf(context, 256, "%s", line);
}

static void find_two(struct neomm *root, struct neomm__report *report)
{
    (void)root;
    neomm__report(report, "finding %d", 1);
    neomm__report(report, "finding %s", "two");
}

static void snapshot_nothing(struct neomm *root, struct neomm_snapshot *snapshot)
{
    (void)root;
    snapshot->table_frames = 77;
}

static void root_layers(struct ktap *t)
{
    static const struct neomm__layer_ops ops = {"test", find_two, snapshot_nothing};
    struct neomm_snapshot snapshot;
    struct env env;
    char line[256] = "";
    ASSERT(t, open_root(t, &env, 2));
    env.root->layer[NEOMM__LAYER_SWAP] = &ops;
    EXPECT(t, neomm__layer_ready(env.root, NEOMM__LAYER_SWAP));
    EXPECT(t, !neomm__layer_ready(env.root, NEOMM__LAYER_VMM));
    EXPECT_EQ(t, neomm_fsck(env.root, collect, line), 2);
    EXPECT(t, strcmp(line, "finding two") == 0);
    EXPECT_EQ(t, neomm_fsck(env.root, NULL, NULL), 2);
    EXPECT_EQ(t, neomm_fini(env.root), NEOMM_E_BUSY);
    neomm_snapshot_take(env.root, &snapshot);
    EXPECT_EQ(t, snapshot.layers, 1u << NEOMM__LAYER_SWAP);
    EXPECT_EQ(t, snapshot.table_frames, 77);
    EXPECT_EQ(t, snapshot.cpus, 2);
    EXPECT_EQ(t, snapshot.size, sizeof(snapshot));
    env.root->layer[NEOMM__LAYER_SWAP] = NULL;
    env_close(t, &env);
}

static void counters(struct ktap *t)
{
    struct env env;
    ASSERT(t, open_root(t, &env, 3));
    for (uint32_t cpu = 0; cpu < 3; cpu++) {
        env_switch_cpu(&env, cpu);
        neomm__count_add(env.root, NEOMM_COUNTER_EVICTION, 10 + cpu);
        NEOMM__COUNT(env.root, SWAP_READ);
    }
    EXPECT_EQ(t, neomm__counter_sum(env.root, NEOMM_COUNTER_EVICTION), 33);
    EXPECT_EQ(t, neomm__counter_sum(env.root, NEOMM_COUNTER_SWAP_READ), 3);
    EXPECT_EQ(t, neomm__counter_sum(env.root, NEOMM_COUNTER_SWAP_WRITE), 0);
    EXPECT_EQ(t, env.root->cpu[2].counter[NEOMM_COUNTER_EVICTION], 12);
    env_close(t, &env);
}

static void pointers(struct ktap *t)
{
    struct env env;
    ASSERT(t, open_root(t, &env, 1));
    const struct neomm_layout *layout = neomm_layout_of(env.root);
    uint32_t value = 0;
    char *page = neomm_direct_pointer(env.root, 0x5000);
    EXPECT(t, sim_physical_write(env.machine, 0x5010, "\x44\x33\x22\x11", 4));
    memcpy(&value, page + 0x10, 4);
    EXPECT_EQ(t, value, 0x11223344);
    EXPECT(t, neomm_direct_pointer(env.root, layout->direct.size) == NULL);
    EXPECT(t, neomm_direct_pointer(env.root, layout->direct.size - 1) != NULL);
    env.root->frames.direct = 6;
    EXPECT(t, neomm_frame_map(env.root, neomm_frame(5)) == page);
    neomm_frame_unmap(env.root, page);
    EXPECT(t, neomm_frame_map(env.root, neomm_frame(6)) == NULL);
    env.root->frames.direct = 0;
    env_close(t, &env);
}

static void panic_with_text(void *argument)
{
    neomm__panic("%s %d", (const char *)argument, 7);
}

static void fail_assertion(void *argument)
{
    NEOMM__ASSERT(argument != NULL);
    NEOMM__ASSERT(argument == NULL);
}

static void texts(struct ktap *t)
{
    static char word[] = "frame";
    struct env env;
    char text[128];
    ASSERT(t, open_root(t, &env, 1));
    EXPECT_EQ(t, sim_catch(env.machine, panic_with_text, word, text, sizeof(text)), SIM_END_PANIC);
    EXPECT(t, strcmp(text, "frame 7") == 0);
    EXPECT_EQ(t, sim_catch(env.machine, fail_assertion, word, text, sizeof(text)), SIM_END_PANIC);
    EXPECT(t, strstr(text, "argument == NULL") != NULL);
    neomm__log(NEOMM_LOG_WARNING, "%u pages of %s", 3u, word);
    EXPECT(t, strcmp(sim_last_log(env.machine), "warning: 3 pages of frame") == 0);
    neomm__log((enum neomm_log_level)(NEOMM_LOG_MAX + 1), "too fine");
    EXPECT(t, strcmp(sim_last_log(env.machine), "warning: 3 pages of frame") == 0);
#define CHECK_TEXT(name, value, words)                                                             \
    EXPECT(t, strcmp(neomm_status_text(NEOMM_##name), words) == 0);                                \
    EXPECT_EQ(t, NEOMM_##name, value);
    NEOMM_STATUS_LIST(CHECK_TEXT)
    EXPECT(t, strcmp(neomm_status_text((neomm_status)-19), "unknown status") == 0);
    EXPECT(t, strcmp(neomm_status_text((neomm_status)1), "unknown status") == 0);
    env_close(t, &env);
}

static const struct ktap_case cases[] = {
    KTAP_CASE(format_numbers), KTAP_CASE(format_signed),   KTAP_CASE(format_strings),
    KTAP_CASE(format_cuts),    KTAP_CASE(divide),          KTAP_CASE(bit_counts),
    KTAP_CASE(frame_sections), KTAP_CASE(frame_mapping),   KTAP_CASE_WITH(frame_lists, seeds),
    KTAP_CASE(root_arguments), KTAP_CASE(layout_mistakes), KTAP_CASE(root_layers),
    KTAP_CASE(counters),       KTAP_CASE(pointers),        KTAP_CASE(texts),
};
KTAP_SUITE(base, cases);
