/* Reclaim: choosing pages by the policy of a domain, and freeing memory for others.
 * SPDX-License-Identifier: MIT
 *
 * Only while a domain is locked does a frame in it stay, so a candidate is held in the same step.
 * A candidate that cannot go is passed as if it had been used.
 */
#include "vmm/evict.h"
#include "vmm/tally.h"

/* As often all pages of a domain are tested before none is said to go: 3 uses counted and some. */
#define ROUNDS 6u

/* Also lets new pages enter: who wants to have one of the domain's pages asks this first. */
static uint32_t domain_size(struct neomm *root, const struct neomm_policy *policy)
{
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    neomm__newcomers_enter(root);
    uint32_t count = policy->count;
    neomm__unlock(&root->vmm->policy_lock, irq);
    return count;
}

/* With the domain's lock. */
static void hold(struct neomm *root, struct neomm__eviction *e)
{
    e->entry = neomm__frame(root, e->frame);
    (void)neomm__fetch_add(&e->entry->references, 1);
}

/* The domain's next candidate, held; false: the domain is empty. */
static bool next_candidate(struct neomm *root, struct neomm_policy *policy,
                           struct neomm__eviction *e)
{
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    bool found = policy->ops->candidates(policy, &e->frame, 1) != 0;
    if (found)
        hold(root, e);
    neomm__unlock(&root->vmm->policy_lock, irq);
    return found;
}

/* Tells the policy about a frame that is held, if it still is in its domain: it may have got into
 * the global one. */
static enum neomm_verdict tell(struct neomm *root, struct neomm_policy *policy,
                               const struct neomm__eviction *e, bool accessed, bool dirty)
{
    enum neomm_verdict verdict = NEOMM_KEEP;
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    if (neomm__frame_has(e->entry, NEOMM__FRAME_POLICY) &&
        (policy->domain == 0 || e->entry->kind == NEOMM__KIND_USER))
        verdict = policy->ops->tested(policy, e->frame, accessed, dirty);
    neomm__unlock(&root->vmm->policy_lock, irq);
    return verdict;
}

/* Does the space have the page? */
static bool belongs_to(struct neomm__eviction *e, const struct neomm_space *space)
{
    uint32_t position = 0;
    uint64_t mapping;
    bool found = false;
    neomm_irq_t irq = neomm__rmap_lock(e->entry);
    while (!found && neomm__rmap_next(e->root, e->entry, &position, &mapping))
        found = !(mapping & NEOMM__RMAP_OBJECT) && neomm__mapping_space(mapping) == space->index;
    neomm__rmap_unlock(e->entry, irq);
    return found;
}

/* Tests one candidate; `insist`: it may go also if it was used since it was tested last.
 * NEOMM_E_AGAIN: it stays. */
static neomm_status test_candidate(struct neomm *root, struct neomm_policy *policy,
                                   struct neomm__eviction *e, bool insist)
{
    bool accessed = true;
    e->dirty = true;
    if (neomm__frame_has(e->entry, NEOMM__FRAME_BUSY) || neomm__frame_pins(e->entry) != 0 ||
        neomm__evict_is_locked(e)) {
        (void)tell(root, policy, e, true, true);
        return NEOMM_E_AGAIN;
    }
    NEOMM__COUNT(root, EVICT_TEST);
    neomm__evict_test(e, &accessed, &e->dirty);
    return tell(root, policy, e, accessed && !insist, e->dirty) == NEOMM_KEEP ? NEOMM_E_AGAIN
                                                                              : NEOMM_OK;
}

/* How its eviction ended. A page that could not go is passed as if it had been used. */
static neomm_status judge(struct neomm *root, struct neomm_policy *policy,
                          const struct neomm__eviction *e)
{
    if (e->status == NEOMM_E_NOENT)
        return NEOMM_E_AGAIN;
    if (e->status != NEOMM_OK)
        (void)tell(root, policy, e, true, e->dirty);
    return e->status;
}

static neomm_status try_candidate(struct neomm *root, struct neomm_policy *policy,
                                  struct neomm__eviction *e, bool insist)
{
    neomm_status status = test_candidate(root, policy, e, insist);
    if (status != NEOMM_OK)
        return status;
    (void)neomm__evict_frame(e);
    return judge(root, policy, e);
}

/* Errors after which another page may still go. */
static bool worth_another(neomm_status status, unsigned *failures)
{
    return status == NEOMM_E_AGAIN || (status == NEOMM_E_IO && ++*failures < 8);
}

static neomm_status evict_from_domain(struct neomm *root, struct neomm_policy *policy,
                                      struct neomm_space *space)
{
    unsigned failures = 0;
    neomm_status status = NEOMM_E_NOENT;
    /* Every page may be kept once for its accessed bit, which the test clears. One that others, or
     * a CPU on its own account, use again meanwhile is not kept for that a second time; but a
     * policy that counts uses may keep it for those it knows of. */
    uint64_t pages = (uint64_t)domain_size(root, policy) + 1;
    for (uint64_t left = ROUNDS * pages; left > 0; left--) {
        struct neomm__eviction e = {.root = root};
        if (!next_candidate(root, policy, &e))
            return NEOMM_E_NOENT;
        if (belongs_to(&e, space)) {
            status = try_candidate(root, policy, &e, left <= (ROUNDS - 1) * pages);
        } else {
            (void)tell(root, policy, &e, true, true);
            status = NEOMM_E_AGAIN;
        }
        neomm__user_frame_put(root, e.frame);
        if (!worth_another(status, &failures))
            return status;
    }
    return status;
}

/* ---- pages of a space that are in the global domain ---- */

struct search {
    struct neomm *root;
    struct neomm__eviction *e;
    const struct neomm_space *space;
    neomm_vaddr_t vaddr;
};

/* A page whose fault is not over is in no policy yet, and is passed. */
static void find_page(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct search *search = context;
    struct neomm__frame *entry = neomm__frame(search->root, neomm_paddr_frame(leaf->paddr));
    if (search->e->entry || leaf->state != NEOMM_MAPPING_PRESENT || !neomm__frame_is_user(entry) ||
        !neomm__frame_has(entry, NEOMM__FRAME_POLICY) ||
        neomm__frame_has(entry, NEOMM__FRAME_BUSY) ||
        neomm__page_is_locked(search->root, search->space, vaddr))
        return;
    (void)neomm__fetch_add(&entry->references, 1);
    search->e->frame = neomm_paddr_frame(leaf->paddr);
    search->e->entry = entry;
    search->vaddr = vaddr;
}

/* A space at its limit whose pages others have as well: one of its leaves goes, in turn. */
static neomm_status evict_a_leaf(struct neomm *root, struct neomm_space *space)
{
    const struct neomm_layout *layout = &root->layout;
    neomm_vaddr_t hand = neomm__load_acquire(&space->hand);
    struct neomm__eviction e = {.root = root};
    struct search search = {root, &e, space, 0};
    if (hand > layout->user_base && hand < layout->user_limit)
        (void)neomm__walk(root, space, hand, layout->user_limit - hand, find_page, &search);
    if (!e.entry)
        (void)neomm__walk(root, space, layout->user_base, layout->user_limit - layout->user_base,
                          find_page, &search);
    if (!e.entry)
        return NEOMM_E_NOENT;
    neomm__store_release(&space->hand, search.vaddr + NEOMM_PAGE_SIZE);
    e.only = neomm__mapping_make(space->index, search.vaddr);
    neomm_status status = neomm__evict_frame(&e);
    neomm__user_frame_put(root, e.frame);
    return status;
}

/* Has the space a domain of its own, and pages that are not in it? */
static bool has_shared_pages(struct neomm *root, struct neomm_space *space)
{
    return neomm__has_domain(space) &&
           neomm__resident(root, space) > domain_size(root, &space->policy);
}

neomm_status neomm__evict_one(struct neomm *root, struct neomm_space *space)
{
    neomm_status status = evict_from_domain(root, neomm__space_policy(root, space), space);
    if ((status == NEOMM_E_NOENT || status == NEOMM_E_AGAIN) && has_shared_pages(root, space)) {
        neomm_status one = evict_a_leaf(root, space);
        status = one == NEOMM_E_NOENT ? status : one;
    }
    return status;
}

struct hope {
    struct neomm *root;
    const struct neomm_space *space;
    bool any;
    size_t stuck; /* pages that must stay */
};

/* A page that may go one day; also if its region cannot be looked at just now. */
static void find_hope(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct hope *hope = context;
    const struct neomm__frame *entry = neomm__frame(hope->root, neomm_paddr_frame(leaf->paddr));
    struct neomm_region_info info;
    uint32_t flags = 0;
    if (hope->any || leaf->state != NEOMM_MAPPING_PRESENT || !neomm__frame_is_user(entry))
        return;
    bool locked = neomm__region_look(hope->root, hope->space, vaddr, &info, &flags) &&
                  (flags & NEOMM__REGION_LOCKED);
    hope->any = !locked && neomm__frame_pins(entry) == 0;
    hope->stuck += !hope->any;
}

/* Where fewer pages must stay than the space has, the others have gone meanwhile, or lost their
 * leaf and not yet their place in the count. */
bool neomm__may_evict_one(struct neomm *root, struct neomm_space *space)
{
    const struct neomm_layout *layout = &root->layout;
    const size_t size = layout->user_limit - layout->user_base;
    struct hope hope = {root, space, false, 0};
    if (neomm__walk(root, space, layout->user_base, size, find_hope, &hope) != NEOMM_OK)
        return true;
    return hope.any || hope.stuck < neomm__resident(root, space);
}

/* ---- one page of a space, or some ---- */

void neomm__evict_at(struct neomm *root, struct neomm_space *space, neomm_vaddr_t vaddr)
{
    struct neomm__eviction e = {.root = root};
    struct search search = {root, &e, space, 0};
    neomm__newcomers_flush(root);
    (void)neomm__walk(root, space, vaddr, NEOMM_PAGE_SIZE, find_page, &search);
    if (!e.entry)
        return;
    if (neomm__rmap_count(e.entry) <= 1u + neomm__frame_is_object(e.entry))
        (void)neomm__evict_frame(&e);
    neomm__user_frame_put(root, e.frame);
}

uint32_t neomm_space_evict(struct neomm *root, struct neomm_space *space, uint32_t count)
{
    uint32_t evicted = 0;
    while (evicted < count && neomm__evict_one(root, space) == NEOMM_OK)
        evicted++;
    return evicted;
}

/* ---- what a space uses ---- */

struct use {
    struct neomm *root;
    size_t pages;
};

/* The table is locked, so the frame is there. */
static void note_page(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct use *use = context;
    struct neomm__frame *entry = neomm__frame(use->root, neomm_paddr_frame(leaf->paddr));
    (void)vaddr;
    if (!leaf->accessed || !neomm__frame_is_user(entry))
        return;
    neomm__frame_rejuvenate(entry);
    use->pages++;
}

/* What a huge leaf says it says of all of its pages. */
static void note_use(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    neomm__leaf_pages(vaddr, leaf, note_page, context);
}

uint64_t neomm_space_harvest(struct neomm *root, struct neomm_space *space)
{
    const struct neomm_layout *layout = &root->layout;
    struct use use = {root, 0};
    (void)neomm_paging_harvest(root, &space->tables, layout->user_base,
                               layout->user_limit - layout->user_base, false, note_use, &use);
    size_t average = neomm__load_relaxed(&space->working_set);
    average = average == 0 ? 16 * use.pages : average - average / 4 + 4 * use.pages;
    neomm__store_relaxed(&space->working_set, average);
    return use.pages;
}

/* ---- for whoever needs memory ---- */

/* Candidates to choose from. */
#define CHOICE 8u

/* Failures that are enough to believe in. */
#define FAILURES 8u

/* Errors that say nothing about other pages; without slots, of those that have one already. */
static bool is_passed(struct neomm__scan *scan, neomm_status status, bool cache)
{
    scan->no_slots |= status == NEOMM_E_NOSPACE;
    return status == NEOMM_E_NOSPACE || status == NEOMM_E_LIMIT || status == NEOMM_E_AGAIN ||
           status == NEOMM_E_NOENT || status == NEOMM_E_BUSY ||
           (status == NEOMM_E_IO && ++scan->failures[cache] < FAILURES);
}

static bool is_wanted(struct neomm *root, const struct neomm__scan *scan, neomm_frame_t frame)
{
    return scan->zones == NEOMM__ALL_ZONES ||
           (scan->zones >> neomm_pmm_zone_of(root, frame) & 1) != 0;
}

/* Has its slot what the frame holds? Not if it was written to since D was looked at last. Of the
 * cache's pages eviction itself knows. */
static bool may_be_clean(struct neomm *root, neomm_frame_t frame)
{
    const struct neomm__frame *entry = neomm__frame(root, frame);
    if (entry->kind == NEOMM__KIND_CACHE)
        return true;
    return neomm__frame_has(entry, NEOMM__FRAME_SLOT) &&
           !neomm__frame_has(entry, NEOMM__FRAME_DIRTY);
}

/* The first that is wanted, or another one for which nothing may have to be written: but each is
 * passed over for such a one only once. `count`: none is wanted. With the domain's lock. */
static uint32_t pick(struct neomm *root, const struct neomm__scan *scan,
                     const neomm_frame_t *frames, uint32_t count, neomm_frame_t *passed)
{
    uint32_t first = 0;
    while (first < count && !is_wanted(root, scan, frames[first]))
        first++;
    if (first == count || !scan->clean_first || may_be_clean(root, frames[first]) ||
        frames[first].number == neomm__load_relaxed(&root->vmm->passed))
        return first;
    for (uint32_t i = first + 1; i < count; i++)
        if (is_wanted(root, scan, frames[i]) && may_be_clean(root, frames[i])) {
            *passed = frames[first];
            return i;
        }
    return first;
}

/* False: the page that was taken since it may be clean is not; now the frame says so. */
static bool is_a_good_choice(struct neomm *root, const struct neomm__scan *scan,
                             struct neomm__eviction *e)
{
    e->clean_only = scan->clean_first || scan->failures[true] >= FAILURES;
    e->wait = scan->wait;
    if (!scan->clean_first || e->entry->kind == NEOMM__KIND_CACHE || !may_be_clean(root, e->frame))
        return true;
    if (neomm__evict_is_dirty(e)) {
        neomm__frame_set(e->entry, NEOMM__FRAME_DIRTY);
        return false;
    }
    if (!neomm_frame_is_nil(e->passed)) {
        neomm__store_relaxed(&root->vmm->passed, e->passed.number);
        NEOMM__COUNT(root, DIRTY_PASSED);
    }
    return true;
}

/* The next candidate, held; *wanted: it is one. False: the domain is empty. */
static bool choose(struct neomm *root, struct neomm_policy *policy, const struct neomm__scan *scan,
                   struct neomm__eviction *e, bool *wanted)
{
    neomm_frame_t frames[CHOICE];
    neomm_irq_t irq = neomm__lock(&root->vmm->policy_lock);
    uint32_t count = policy->ops->candidates(policy, frames, CHOICE);
    uint32_t at = pick(root, scan, frames, count, &e->passed);
    *wanted = at < count;
    if (count != 0) {
        e->frame = frames[*wanted ? at : 0];
        hold(root, e);
    }
    neomm__unlock(&root->vmm->policy_lock, irq);
    return count != 0;
}

/* Where swap has refused enough, only what needs no write may go. */
static bool could_go(const struct neomm__scan *scan, struct neomm__eviction *e)
{
    if (e->entry->kind == NEOMM__KIND_CACHE)
        return true;
    if (scan->failures[false] >= FAILURES && !may_be_clean(e->root, e->frame))
        return false;
    return (!scan->no_slots || neomm__frame_has(e->entry, NEOMM__FRAME_SLOT)) &&
           !neomm__evict_is_limited(e);
}

/* One look. True: the page has joined the batch. */
static bool look(struct neomm *root, struct neomm_policy *policy, struct neomm__scan *scan,
                 struct neomm__eviction *e, bool wanted)
{
    scan->scanned++;
    if (!wanted || !could_go(scan, e))
        (void)tell(root, policy, e, true, true);
    else if (is_a_good_choice(root, scan, e) &&
             test_candidate(root, policy, e, scan->insist) == NEOMM_OK && neomm__evict_prepare(e))
        return true;
    return false;
}

/* The end of a page that was looked at; false: there is no use in looking at others. */
static bool settle(struct neomm *root, struct neomm_policy *policy, struct neomm__scan *scan,
                   struct neomm__eviction *e)
{
    neomm_status status = judge(root, policy, e);
    neomm__user_frame_put(root, e->frame);
    scan->freed += status == NEOMM_OK;
    return status == NEOMM_OK || is_passed(scan, status, policy == &root->vmm->cache);
}

/* Looks at candidates until there are enough that may go, or no more looks; false: no use in more.
 * A page that is BUSY may be one of our own batch: there are no others. */
static bool fill(struct neomm *root, struct neomm_policy *policy, struct neomm__scan *scan,
                 struct neomm__write_back *batch, uint32_t *looks)
{
    while (*looks > 0 && scan->freed + batch->count < scan->wanted &&
           batch->count < NEOMM_POLICY_BATCH && scan->scanned < scan->most) {
        struct neomm__eviction *e = &batch->e[batch->count];
        bool wanted;
        *e = (struct neomm__eviction){.root = root, .status = NEOMM_E_NOENT};
        if (!choose(root, policy, scan, e, &wanted)) {
            *looks = 0;
            return true;
        }
        if (batch->count != 0 && neomm__frame_has(e->entry, NEOMM__FRAME_BUSY)) {
            neomm__user_frame_put(root, e->frame);
            return true;
        }
        --*looks;
        if (look(root, policy, scan, e, wanted))
            batch->count++;
        else if (!settle(root, policy, scan, e))
            return false;
    }
    return true;
}

/* Writes the batch back; false: there is no use in another. */
static bool drain(struct neomm *root, struct neomm_policy *policy, struct neomm__scan *scan,
                  struct neomm__write_back *batch)
{
    bool more = true;
    neomm__write_back(batch);
    for (uint32_t i = 0; i < batch->count; i++)
        more &= settle(root, policy, scan, &batch->e[i]);
    batch->count = 0;
    return more;
}

void neomm__scan_domain(struct neomm *root, struct neomm_policy *policy, struct neomm__scan *scan,
                        uint32_t looks)
{
    bool more = looks > 0 && domain_size(root, policy) != 0;
    if (!more)
        return;
    struct neomm__write_back *batch = neomm__write_back_take(root);
    while (more && looks > 0 && scan->freed < scan->wanted && scan->scanned < scan->most) {
        more = fill(root, policy, scan, batch, &looks);
        more &= drain(root, policy, scan, batch);
    }
    neomm__write_back_give(root, batch);
}

uint32_t neomm__scan_share(struct neomm *root, const struct neomm_policy *policy, unsigned priority)
{
    uint32_t pages = domain_size(root, policy), share = pages >> priority;
    if (priority == 0)
        return pages < UINT32_MAX / ROUNDS ? pages * ROUNDS : UINT32_MAX;
    share = share > NEOMM__SCAN_LEAST ? share : NEOMM__SCAN_LEAST;
    return share < pages ? share : pages;
}
