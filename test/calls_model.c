/* A naive model of the calls on regions.
 * SPDX-License-Identifier: MIT */
#include "calls_model.h"

#include "vmm/vmm_priv.h"

#include <string.h>

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

void calls_clear_pages(struct model *m, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++)
        m->page[i] = (struct page){0};
}

static void move_pages(struct model *m, const struct call *call)
{
    struct page old[PAGES_MAX];
    memcpy(old, m->page, sizeof(old));
    if (call->flags & NEOMM_REMAP_FIXED)
        calls_clear_pages(m, call->to, call->size);
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
        calls_clear_pages(m, call->first + call->size, call->count - call->size);
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

neomm_status calls_expect(struct model *m, struct call *call)
{
    uint32_t mapped = count_if(m, call->first, call->count, 0);
    switch (call->kind) {
    case MAP:
        return expect_map(m, call);
    case UNMAP:
        calls_clear_pages(m, call->first, call->count);
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

neomm_status calls_perform(struct model *m, const struct call *call)
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

void calls_check_contents(struct model *m)
{
    for (uint32_t i = 0; i < m->pages; i++) {
        struct call call = {.kind = READ, .first = i};
        uint64_t value = m->page[i].value;
        EXPECT_EQ(m->t, do_access(m, &call, value), expect_access(m, &call));
    }
}

void calls_check_all(struct model *m)
{
    struct neomm_space_stats stats;
    for (uint32_t i = 0; i < m->pages && m->t->failures == 0; i++)
        check_page(m, i);
    neomm_space_stats(m->root, m->space, &stats);
    EXPECT_EQ(m->t, stats.virtual_bytes / PAGE, count_if(m, 0, m->pages, 0));
    EXPECT_EQ(m->t, stats.locked_bytes / PAGE, count_if(m, 0, m->pages, NEOMM__REGION_LOCKED));
}

void calls_note(struct model *m, const struct call *call)
{
    ktap_note(m->t, "call %d: pages %u + %u, size %u, to %u, rights %u, flags %#x", call->kind,
              call->first, call->count, call->size, call->to, call->prot, call->flags);
}

bool calls_step(struct model *m, struct call call)
{
    struct page before[PAGES_MAX];
    unsigned failures = m->t->failures;
    memcpy(before, m->page, sizeof(before));
    neomm_status want = calls_expect(m, &call);
    if (want == UNKNOWN) {
        memcpy(m->page, before, sizeof(before));
        return true;
    }
    EXPECT_EQ(m->t, calls_perform(m, &call), want);
    if (m->t->failures != failures)
        calls_note(m, &call);
    return m->t->failures == failures;
}

/* ---- begin and end ---- */

bool calls_open(struct ktap *t, struct model *m, enum neomm_format format, uint32_t pages)
{
    const struct env_options options = {.layer = ENV_VMM,
                                        .readahead = 16,
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

void calls_close(struct model *m)
{
    env_fsck(m->t, &m->env);
    neomm_space_activate(m->root, NULL);
    EXPECT_OK(m->t, neomm_space_destroy(m->root, m->space));
    env_close(m->t, &m->env);
}

uint32_t calls_pick(struct model *m, uint32_t below)
{
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(m->random >> 33) % below;
}
