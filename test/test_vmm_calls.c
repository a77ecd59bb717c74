/* The calls on regions against a naive model: rights, flags and a word of contents a page. Long
 * random histories, all pairs of calls over a few pages, and each call while memory runs out.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "share.h"

#include "vmm/vmm_priv.h"

#include <string.h>

#define PAGE      NEOMM_PAGE_SIZE
#define PAGES_MAX 64u
#define RW        (NEOMM_PROT_READ | NEOMM_PROT_WRITE)

static const uint64_t formats[] = ENV_FORMATS;

enum kind {
    MAP,
    UNMAP,
    PROTECT,
    REMAP,
    LOCK,
    UNLOCK,
    GIVE_UP,
    PAGE_OUT,
    ORDER, /* madvise: sequential or normal */
    WILL_NEED,
    SYNC,
    WRITE,
    READ,
    EVICT,
    KINDS
};

struct call {
    enum kind kind;
    uint32_t first, count;
    uint32_t size, to; /* REMAP: pages; the place */
    neomm_prot_t prot;
    unsigned flags; /* of the call; ORDER: sequential; WRITE: the value */
};

struct page {
    bool mapped;
    bool in; /* locked, and was brought in */
    neomm_prot_t prot;
    uint32_t flags; /* of the region */
    uint64_t value;
};

struct model {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    struct neomm_space *space;
    neomm_vaddr_t base;
    uint32_t pages, virtual_limit, locked_limit;
    struct page page[PAGES_MAX];
    uint64_t random;
};

/* The model cannot tell what happens: beyond its pages there is room, too. */
#define UNKNOWN ((neomm_status)1)

/* ---- the model's own idea of it ---- */

static uint32_t count_if(const struct model *m, uint32_t first, uint32_t count, uint32_t flag)
{
    uint32_t found = 0;
    for (uint32_t i = first; i < first + count; i++)
        found += m->page[i].mapped && (flag == 0 || (m->page[i].flags & flag));
    return found;
}

static bool same_region(const struct page *a, const struct page *b)
{
    return a->mapped && b->mapped && a->prot == b->prot && a->flags == b->flags;
}

static uint32_t region_start(const struct model *m, uint32_t page)
{
    while (page > 0 && same_region(&m->page[page - 1], &m->page[page]))
        page--;
    return page;
}

static uint32_t region_end(const struct model *m, uint32_t page)
{
    while (page + 1 < m->pages && same_region(&m->page[page + 1], &m->page[page]))
        page++;
    return page + 1;
}

static bool find_free(const struct model *m, uint32_t from, uint32_t count, uint32_t *found)
{
    for (; from + count <= m->pages; from++)
        if (count_if(m, from, count, 0) == 0) {
            *found = from;
            return true;
        }
    return false;
}

static bool exceeds(uint32_t have, uint32_t more, uint32_t less, uint32_t limit)
{
    return more > less && have + more - less > limit;
}

static neomm_status within_limits(const struct model *m, uint32_t more, uint32_t less,
                                  uint32_t more_locked, uint32_t less_locked)
{
    uint32_t all = count_if(m, 0, m->pages, 0),
             locked = count_if(m, 0, m->pages, NEOMM__REGION_LOCKED);
    return exceeds(all, more, less, m->virtual_limit) ||
                   exceeds(locked, more_locked, less_locked, m->locked_limit)
               ? NEOMM_E_LIMIT
               : NEOMM_OK;
}

static neomm_status expect_map(struct model *m, struct call *call)
{
    const unsigned fixed = NEOMM_MAP_FIXED | NEOMM_MAP_EXACT;
    uint32_t locked = call->flags & NEOMM_MAP_LOCKED ? call->count : 0, gone = 0, gone_locked = 0;
    if ((call->flags & fixed) == NEOMM_MAP_EXACT && count_if(m, call->first, call->count, 0) != 0)
        return NEOMM_E_EXISTS;
    if (!(call->flags & fixed) && !find_free(m, call->first, call->count, &call->to))
        return UNKNOWN;
    if (call->flags & fixed)
        call->to = call->first;
    if (call->flags & NEOMM_MAP_FIXED) {
        gone = count_if(m, call->to, call->count, 0);
        gone_locked = count_if(m, call->to, call->count, NEOMM__REGION_LOCKED);
    }
    neomm_status status = within_limits(m, call->count, gone, locked, gone_locked);
    for (uint32_t i = call->to; status == NEOMM_OK && i < call->to + call->count; i++) {
        uint32_t flags = call->prot & NEOMM_PROT_WRITE ? NEOMM__REGION_COMMITTED : 0;
        flags |= locked ? NEOMM__REGION_LOCKED : 0;
        m->page[i] = (struct page){true, locked && call->prot, call->prot, flags, 0};
    }
    return status;
}

static neomm_status expect_protect(struct model *m, const struct call *call)
{
    if (count_if(m, call->first, call->count, 0) != call->count)
        return NEOMM_E_NOENT;
    for (uint32_t i = call->first; i < call->first + call->count; i++) {
        m->page[i].prot = call->prot;
        m->page[i].flags |= call->prot & NEOMM_PROT_WRITE ? NEOMM__REGION_COMMITTED : 0;
    }
    return NEOMM_OK;
}

static void clear_pages(struct model *m, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++)
        m->page[i] = (struct page){0};
}

static void move_pages(struct model *m, const struct call *call)
{
    struct page old[PAGES_MAX];
    memcpy(old, m->page, sizeof(old));
    if (call->flags & NEOMM_REMAP_FIXED)
        clear_pages(m, call->to, call->size);
    for (uint32_t i = call->first; i < call->first + call->count; i++) {
        m->page[i].value = 0;
        m->page[i].in = false;
        m->page[i].flags &= ~NEOMM__REGION_LOCKED;
        m->page[i].mapped = call->flags & NEOMM_REMAP_KEEP;
    }
    for (uint32_t i = 0; i < call->size; i++) {
        m->page[call->to + i] = old[call->first + (i < call->count ? i : 0)];
        if (i >= call->count) {
            m->page[call->to + i].value = 0;
            m->page[call->to + i].in = false;
        }
    }
}

static neomm_status expect_grow(struct model *m, struct call *call, uint32_t locked)
{
    uint32_t more = call->size - call->count, end = call->first + call->count;
    neomm_status status = within_limits(m, more, 0, locked ? more : 0, 0);
    for (uint32_t i = end; status == NEOMM_OK && i < end + more; i++) {
        m->page[i] = m->page[call->first];
        m->page[i].value = 0;
        m->page[i].in = false;
    }
    call->to = call->first;
    return status;
}

static neomm_status expect_move(struct model *m, struct call *call, uint32_t locked)
{
    bool fixed = call->flags & NEOMM_REMAP_FIXED, keep = call->flags & NEOMM_REMAP_KEEP;
    uint32_t less = keep ? 0 : call->count, less_locked = locked ? less : 0;
    if (!fixed && !find_free(m, 0, call->size, &call->to))
        return UNKNOWN;
    if (fixed) {
        less += count_if(m, call->to, call->size, 0);
        less_locked += count_if(m, call->to, call->size, NEOMM__REGION_LOCKED);
    }
    neomm_status status = within_limits(m, call->size, less, locked ? call->size : 0, less_locked);
    if (status == NEOMM_OK)
        move_pages(m, call);
    return status;
}

static neomm_status expect_remap(struct model *m, struct call *call)
{
    unsigned flags = call->flags;
    const unsigned moves = NEOMM_REMAP_FIXED | NEOMM_REMAP_KEEP;
    uint32_t end = call->first + call->count;
    if (((flags & moves) && !(flags & NEOMM_REMAP_MAYMOVE)) ||
        ((flags & NEOMM_REMAP_KEEP) && call->size != call->count) ||
        ((flags & NEOMM_REMAP_FIXED) && call->to < end && call->first < call->to + call->size))
        return NEOMM_E_INVALID;
    if (!m->page[call->first].mapped || region_end(m, call->first) < end)
        return NEOMM_E_NOENT;
    uint32_t locked = m->page[call->first].flags & NEOMM__REGION_LOCKED;
    if (!(flags & moves) && call->size <= call->count) {
        clear_pages(m, call->first + call->size, call->count - call->size);
        call->to = call->first;
        return NEOMM_OK;
    }
    if (!(flags & moves) && region_end(m, call->first) == end) {
        if (call->first + call->size > m->pages)
            return UNKNOWN;
        if (count_if(m, end, call->size - call->count, 0) == 0)
            return expect_grow(m, call, locked);
    }
    return flags & NEOMM_REMAP_MAYMOVE ? expect_move(m, call, locked) : NEOMM_E_NOSPACE;
}

static neomm_status expect_lock(struct model *m, const struct call *call)
{
    bool lock = call->kind == LOCK;
    uint32_t locked = count_if(m, call->first, call->count, NEOMM__REGION_LOCKED);
    if (count_if(m, call->first, call->count, 0) != call->count)
        return NEOMM_E_NOENT;
    if (lock && within_limits(m, 0, 0, call->count - locked, 0) != NEOMM_OK)
        return NEOMM_E_LIMIT;
    for (uint32_t i = call->first; i < call->first + call->count; i++) {
        m->page[i].flags &= ~NEOMM__REGION_LOCKED;
        m->page[i].flags |= lock ? NEOMM__REGION_LOCKED : 0;
        m->page[i].in = lock && (m->page[i].in || (m->page[i].prot && !call->flags));
    }
    return NEOMM_OK;
}

/* Up to the first locked page, in whole regions. */
static neomm_status expect_contents(struct model *m, const struct call *call)
{
    bool whole = count_if(m, call->first, call->count, 0) == call->count;
    for (uint32_t i = call->first; i < call->first + call->count; i++) {
        if (m->page[i].mapped && (m->page[i].flags & NEOMM__REGION_LOCKED))
            return NEOMM_E_INVALID;
        if (call->kind == GIVE_UP)
            m->page[i].value = 0;
    }
    return whole ? NEOMM_OK : NEOMM_E_NOENT;
}

static neomm_status expect_order(struct model *m, const struct call *call)
{
    bool whole = count_if(m, call->first, call->count, 0) == call->count;
    for (uint32_t i = call->first; i < call->first + call->count; i++) {
        if (!m->page[i].mapped)
            continue;
        m->page[i].flags &= ~NEOMM__REGION_SEQUENTIAL;
        m->page[i].flags |= call->flags ? NEOMM__REGION_SEQUENTIAL : 0;
    }
    return whole ? NEOMM_OK : NEOMM_E_NOENT;
}

static neomm_status expect_access(struct model *m, const struct call *call)
{
    struct page *page = &m->page[call->first];
    bool write = call->kind == WRITE;
    if (!page->mapped || page->prot == 0 || (write && !(page->prot & NEOMM_PROT_WRITE)))
        return NEOMM_E_FAULT;
    if (write)
        page->value = call->flags;
    page->in = page->flags & NEOMM__REGION_LOCKED;
    return NEOMM_OK;
}

static neomm_status expect(struct model *m, struct call *call)
{
    uint32_t mapped = count_if(m, call->first, call->count, 0);
    switch (call->kind) {
    case MAP:
        return expect_map(m, call);
    case UNMAP:
        clear_pages(m, call->first, call->count);
        return NEOMM_OK;
    case PROTECT:
        return expect_protect(m, call);
    case REMAP:
        return expect_remap(m, call);
    case LOCK:
    case UNLOCK:
        return expect_lock(m, call);
    case GIVE_UP:
    case PAGE_OUT:
        return expect_contents(m, call);
    case ORDER:
        return expect_order(m, call);
    case WRITE:
    case READ:
        return expect_access(m, call);
    case SYNC:
        if (mapped == call->count && count_if(m, call->first, call->count, NEOMM__REGION_LOCKED))
            return NEOMM_E_BUSY;
        return mapped == call->count ? NEOMM_OK : NEOMM_E_NOENT;
    case WILL_NEED:
        return mapped == call->count ? NEOMM_OK : NEOMM_E_NOENT;
    default:
        return NEOMM_OK;
    }
}

/* ---- the real one ---- */

static neomm_status do_access(struct model *m, const struct call *call, uint64_t expected)
{
    uint64_t value = call->flags;
    bool write = call->kind == WRITE;
    neomm_status status =
        env_access(&m->env, m->space, m->base + call->first * PAGE, &value, 8, write, true);
    if (status == NEOMM_OK && !write)
        EXPECT_EQ(m->t, value, expected);
    return status;
}

static neomm_status do_map(struct model *m, const struct call *call, neomm_vaddr_t at)
{
    neomm_status status =
        neomm_mmap(m->root, m->space, &at, call->count * PAGE, call->prot, call->flags);
    if (status == NEOMM_OK)
        EXPECT_EQ(m->t, at, m->base + call->to * PAGE);
    return status;
}

static neomm_status do_remap(struct model *m, const struct call *call, neomm_vaddr_t at)
{
    neomm_vaddr_t to = m->base + call->to * PAGE;
    neomm_status status = neomm_mremap(m->root, m->space, at, call->count * PAGE, call->size * PAGE,
                                       call->flags, &to);
    if (status == NEOMM_OK)
        EXPECT_EQ(m->t, to, m->base + call->to * PAGE);
    return status;
}

static neomm_status advise(struct model *m, const struct call *call, enum neomm_advice advice)
{
    return neomm_madvise(m->root, m->space, m->base + call->first * PAGE, call->count * PAGE,
                         advice);
}

static neomm_status perform(struct model *m, const struct call *call)
{
    struct neomm *root = m->root;
    neomm_vaddr_t at = m->base + call->first * PAGE;
    uint64_t size = call->count * PAGE;
    switch (call->kind) {
    case MAP:
        return do_map(m, call, at);
    case UNMAP:
        return neomm_munmap(root, m->space, at, size);
    case PROTECT:
        return neomm_mprotect(root, m->space, at, size, call->prot);
    case REMAP:
        return do_remap(m, call, at);
    case LOCK:
        return neomm_mlock(root, m->space, at, size, call->flags);
    case UNLOCK:
        return neomm_munlock(root, m->space, at, size);
    case GIVE_UP:
        return advise(m, call, NEOMM_ADVICE_DONTNEED);
    case PAGE_OUT:
        return advise(m, call, NEOMM_ADVICE_PAGEOUT);
    case ORDER:
        return advise(m, call, call->flags ? NEOMM_ADVICE_SEQUENTIAL : NEOMM_ADVICE_NORMAL);
    case WILL_NEED:
        return advise(m, call, NEOMM_ADVICE_WILLNEED);
    case SYNC:
        return neomm_msync(root, m->space, at, size, NEOMM_MS_SYNC | NEOMM_MS_INVALIDATE);
    case WRITE:
    case READ:
        return do_access(m, call, m->page[call->first].value);
    default:
        (void)neomm_space_evict(root, m->space, call->count);
        return NEOMM_OK;
    }
}

/* ---- comparing ---- */

static void check_page(struct model *m, uint32_t i)
{
    struct neomm_region_info info = {0, 0, 0};
    const struct page *page = &m->page[i];
    neomm_vaddr_t at = m->base + i * PAGE;
    EXPECT_EQ(m->t, neomm_region_at(m->root, m->space, at, &info),
              page->mapped ? NEOMM_OK : NEOMM_E_NOENT);
    uint8_t in = 0;
    EXPECT_EQ(m->t, neomm_mincore(m->root, m->space, at, PAGE, &in),
              page->mapped ? NEOMM_OK : NEOMM_E_NOENT);
    if (!page->mapped)
        return;
    EXPECT_EQ(m->t, info.prot, page->prot);
    EXPECT_EQ(m->t, (info.start - m->base) / PAGE, region_start(m, i));
    EXPECT_EQ(m->t, (info.end - m->base) / PAGE, region_end(m, i));
    if (page->in)
        EXPECT(m->t, in);
}

static void check_contents(struct model *m)
{
    for (uint32_t i = 0; i < m->pages; i++) {
        struct call call = {.kind = READ, .first = i};
        uint64_t value = m->page[i].value;
        EXPECT_EQ(m->t, do_access(m, &call, value), expect_access(m, &call));
    }
}

static void check_all(struct model *m)
{
    struct neomm_space_stats stats;
    for (uint32_t i = 0; i < m->pages && m->t->failures == 0; i++)
        check_page(m, i);
    neomm_space_stats(m->root, m->space, &stats);
    EXPECT_EQ(m->t, stats.virtual_bytes / PAGE, count_if(m, 0, m->pages, 0));
    EXPECT_EQ(m->t, stats.locked_bytes / PAGE, count_if(m, 0, m->pages, NEOMM__REGION_LOCKED));
}

static void note_call(struct model *m, const struct call *call)
{
    ktap_note(m->t, "call %d: pages %u + %u, size %u, to %u, rights %u, flags %#x", call->kind,
              call->first, call->count, call->size, call->to, call->prot, call->flags);
}

/* One call on both. False: they differ. */
static bool step(struct model *m, struct call call)
{
    struct page before[PAGES_MAX];
    unsigned failures = m->t->failures;
    memcpy(before, m->page, sizeof(before));
    neomm_status want = expect(m, &call);
    if (want == UNKNOWN) {
        memcpy(m->page, before, sizeof(before));
        return true;
    }
    EXPECT_EQ(m->t, perform(m, &call), want);
    if (m->t->failures != failures)
        note_call(m, &call);
    return m->t->failures == failures;
}

/* ---- random histories ---- */

static bool open_model(struct ktap *t, struct model *m, enum neomm_format format, uint32_t pages)
{
    const struct env_options options = {.layer = ENV_VMM,
                                        .format = format,
                                        .swap_pages = 512,
                                        .seed = t->parameter,
                                        .no_zero_page = t->parameter & 2};
    *m = (struct model){.t = t, .pages = pages, .random = t->parameter + 1};
    m->virtual_limit = pages - pages / 8;
    m->locked_limit = pages / 2;
    const struct neomm_limits limits = {m->virtual_limit * PAGE, NEOMM_UNLIMITED, NEOMM_UNLIMITED,
                                        m->locked_limit * PAGE};
    if (!env_open(t, &m->env, &options))
        return false;
    m->root = m->env.root;
    m->base = neomm_layout_of(m->root)->user_base;
    if (neomm_space_create(m->root, &limits, &m->space) != NEOMM_OK)
        return false;
    neomm_space_activate(m->root, m->space);
    return true;
}

static void close_model(struct model *m)
{
    env_fsck(m->t, &m->env);
    neomm_space_activate(m->root, NULL);
    EXPECT_OK(m->t, neomm_space_destroy(m->root, m->space));
    env_close(m->t, &m->env);
}

static uint32_t pick(struct model *m, uint32_t below)
{
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(m->random >> 33) % below;
}

static struct call random_call(struct model *m)
{
    static const neomm_prot_t prots[] = {RW, RW, NEOMM_PROT_READ, NEOMM_PROT_NONE};
    static const unsigned places[] = {0, NEOMM_MAP_FIXED, NEOMM_MAP_EXACT,
                                      NEOMM_MAP_FIXED | NEOMM_MAP_LOCKED};
    struct call call = {.kind = (enum kind)pick(m, KINDS + 8), .prot = prots[pick(m, 4)]};
    if (call.kind >= KINDS)
        call.kind = call.kind % 2 ? WRITE : READ;
    call.first = pick(m, m->pages);
    call.count = 1 + pick(m, m->pages - call.first < 9 ? m->pages - call.first : 9);
    call.size = 1 + pick(m, 9);
    if (call.kind == MAP)
        call.flags = places[pick(m, 4)];
    else if (call.kind == REMAP)
        call.flags = pick(m, 8);
    else if (call.kind == LOCK)
        call.flags = pick(m, 2) ? NEOMM_LOCK_ONFAULT : 0;
    else if (call.kind == ORDER)
        call.flags = pick(m, 2);
    else if (call.kind == WRITE)
        call.flags = 1 + pick(m, 1000000);
    if (call.kind == REMAP && pick(m, 2))
        call.size = call.count;
    call.to = pick(m, m->pages - call.size + 1);
    return call;
}

/* Parameter: format, and bit 1: no frame of zeros. */
static const uint64_t histories[] = {0, 1, 2, 3};

static void random_calls(struct ktap *t)
{
    static struct model m;
    uint64_t steps = share_of(300000);
    ASSERT(t, open_model(t, &m, (enum neomm_format)formats[t->parameter & 1], 48));
    for (uint64_t i = 0; i < steps && t->failures == 0; i++) {
        if (!step(&m, random_call(&m)))
            ktap_note(t, "step %llu", (unsigned long long)i);
        if (i % 64 == 0)
            check_all(&m);
        if (i % 1024 == 0)
            env_fsck(t, &m.env);
    }
    check_all(&m);
    check_contents(&m);
    close_model(&m);
}

/* ---- all pairs ---- */

#define FEW 8u

/* What a pair is made of, over each range of the eight pages. */
static const struct call kinds[] = {
    {.kind = MAP, .prot = RW, .flags = NEOMM_MAP_FIXED},
    {.kind = MAP, .prot = NEOMM_PROT_READ, .flags = NEOMM_MAP_FIXED},
    {.kind = MAP, .prot = RW, .flags = NEOMM_MAP_EXACT},
    {.kind = UNMAP},
    {.kind = PROTECT, .prot = NEOMM_PROT_READ},
    {.kind = PROTECT, .prot = RW},
    {.kind = LOCK},
    {.kind = UNLOCK},
    {.kind = GIVE_UP},
    {.kind = PAGE_OUT},
    {.kind = REMAP, .size = 1},
    {.kind = REMAP, .size = 3},
    {.kind = REMAP, .size = 2, .flags = NEOMM_REMAP_MAYMOVE},
    {.kind = REMAP, .size = 2, .to = 0, .flags = NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_FIXED},
    {.kind = REMAP, .size = 1, .to = 5, .flags = NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_FIXED},
    {.kind = REMAP, .size = 2, .flags = NEOMM_REMAP_MAYMOVE | NEOMM_REMAP_KEEP},
};
#define CALL_KINDS (sizeof(kinds) / sizeof(kinds[0]))
#define RANGES     (FEW * (FEW + 1) / 2)
#define CALLS      ((uint32_t)(CALL_KINDS * RANGES))

static struct call nth_call(uint32_t n)
{
    struct call call = kinds[n / RANGES];
    uint32_t range = n % RANGES;
    while (range >= FEW - call.first) {
        range -= FEW - call.first;
        call.first++;
    }
    call.count = range + 1;
    return call;
}

/* Pages 2 to 5, with something in them; 4 and 5 in swap. */
static bool begin_pair(struct model *m)
{
    EXPECT_OK(m->t, neomm_space_reset(m->root, m->space));
    memset(m->page, 0, sizeof(m->page));
    bool good = step(
        m,
        (struct call){.kind = MAP, .first = 2, .count = 4, .prot = RW, .flags = NEOMM_MAP_EXACT});
    for (uint32_t i = 2; i < 6; i++)
        good = good && step(m, (struct call){.kind = WRITE, .first = i, .flags = 100 + i});
    return good && step(m, (struct call){.kind = PAGE_OUT, .first = 4, .count = 2});
}

/* All of them in the production flavour, which is the faster one. */
#if NEOMM_INSTRUMENTED
#define STRIDE 11u
#else
#define STRIDE 1u
#endif

/* Parameter: format. */
static void all_pairs(struct ktap *t)
{
    static struct model m;
    uint32_t stride = (uint32_t)share_divisor() * STRIDE;
    ASSERT(t, open_model(t, &m, (enum neomm_format)t->parameter, FEW));
    m.virtual_limit = FEW - 1;
    for (uint32_t pair = (uint32_t)t->parameter; pair < CALLS * CALLS && t->failures == 0;
         pair += stride) {
        if (!begin_pair(&m) || !step(&m, nth_call(pair / CALLS)) ||
            !step(&m, nth_call(pair % CALLS)))
            ktap_note(t, "pair %u, %u", pair / CALLS, pair % CALLS);
        check_all(&m);
        check_contents(&m);
        if (pair % 512 == 0)
            env_fsck(t, &m.env);
    }
    close_model(&m);
}

/* ---- memory runs out ---- */

/* Over a space with holes, regions of both rights, and pages in swap. */
static bool begin_sweep(struct model *m)
{
    bool good = begin_pair(m);
    good = good &&
           step(m, (struct call){.kind = PROTECT, .first = 3, .count = 1, .prot = NEOMM_PROT_READ});
    return good;
}

/* An error that a call may end with half-way: mlock, whose range is locked then. */
static bool is_partial(const struct call *call)
{
    return call->kind == LOCK;
}

/* What was at the place that mremap is to move something to may be lost. */
static bool is_mapped(struct model *m, const struct call *call)
{
    struct neomm_region_info info;
    for (uint32_t i = call->to; i < call->to + call->size; i++)
        if (neomm_region_at(m->root, m->space, m->base + i * PAGE, &info) == NEOMM_OK)
            return true;
    return false;
}

/* The nth allocation of the call fails, once or all from there on; false: it has no nth. */
static bool sweep_once(struct model *m, struct call call, uint64_t nth, bool forever)
{
    struct page before[PAGES_MAX];
    bool good = begin_sweep(m);
    memcpy(before, m->page, sizeof(before));
    neomm_status want = expect(m, &call);
    if (want == UNKNOWN || !good)
        return false;
    (void)env_fault_plan(&m->env, nth, forever);
    neomm_status status = perform(m, &call);
    bool reached = env_fault_count(&m->env) >= nth;
    (void)env_fault_plan(&m->env, 0, false);
    if (status != want) {
        if (status != NEOMM_E_NOMEM && !(call.kind == LOCK && status == NEOMM_E_FAULT)) {
            ktap_fail(m->t, __FILE__, __LINE__, neomm_status_text(status));
            note_call(m, &call);
        }
        struct page after[PAGES_MAX];
        memcpy(after, m->page, sizeof(after));
        memcpy(m->page, before, sizeof(before));
        if (call.kind == REMAP && (call.flags & NEOMM_REMAP_FIXED) && !is_mapped(m, &call))
            clear_pages(m, call.to, call.size);
        if (!is_partial(&call))
            check_all(m);
        EXPECT_EQ(m->t, perform(m, &call), want);
        memcpy(m->page, after, sizeof(after));
    }
    check_all(m);
    check_contents(m);
    env_fsck(m->t, &m->env);
    return reached;
}

static void memory_fails(struct ktap *t)
{
    static struct model m;
    uint32_t failed = 0;
    ASSERT(t, open_model(t, &m, (enum neomm_format)t->parameter, FEW));
    if (!env_fault_plan(&m.env, 0, false)) {
        ktap_skip(t, "no fault points in this build");
        close_model(&m);
        return;
    }
    for (uint32_t n = 0; n < CALLS && t->failures == 0; n += (uint32_t)share_divisor())
        for (uint32_t forever = 0; forever < 2; forever++)
            for (uint64_t nth = 1; sweep_once(&m, nth_call(n), nth, forever) && nth < 100; nth++) {
                failed++;
                if (t->failures != 0) {
                    ktap_note(t, "allocation %llu, %u", (unsigned long long)nth, forever);
                    break;
                }
            }
    EXPECT(t, failed > 100);
    close_model(&m);
}

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(random_calls, histories),
    KTAP_CASE_WITH(all_pairs, formats),
    KTAP_CASE_WITH(memory_fails, formats),
};
KTAP_SUITE(vmm_calls, cases);
