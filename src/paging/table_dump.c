/* Page tables as text.
 * SPDX-License-Identifier: MIT */
#include "base/bits.h"
#include "base/format.h"
#include "paging/tables.h"

/* Neighbours that continue each other, not printed yet. */
struct dump {
    neomm_report_fn *line;
    void *context;
    char half; /* 'u' or 'k' */
    bool any;
    neomm_vaddr_t start;
    size_t size;
    struct neomm_mapping first;
};

/* Memory needs no mention. */
static const char *cache_name(enum neomm_cache cache)
{
    static const char *const name[] = {"", " WT", " UC-", " UC", " WC"};
    return (unsigned)cache < NEOMM__COUNT_OF(name) ? name[cache] : " ?";
}

static void print(struct dump *dump)
{
    char text[NEOMM__LINE_MAX];
    const struct neomm_mapping *leaf = &dump->first;
    if (!dump->any)
        return;
    size_t used = neomm__format(text, sizeof(text), "%#zx-%#zx %c%c%c%c ", (size_t)dump->start,
                                (size_t)(dump->start + (dump->size - 1)),
                                leaf->prot & NEOMM_PROT_READ ? 'r' : '-',
                                leaf->prot & NEOMM_PROT_WRITE ? 'w' : '-',
                                leaf->prot & NEOMM_PROT_EXEC ? 'x' : '-', dump->half);
    if (leaf->state == NEOMM_MAPPING_SWAPPED)
        neomm__format(text + used, sizeof(text) - used, "4K -> swap %u", leaf->swap.slot);
    else
        neomm__format(text + used, sizeof(text) - used, "%zuK -> %#llx%s", leaf->size >> 10,
                      (unsigned long long)leaf->paddr, cache_name(leaf->cache));
    dump->line(dump->context, text);
}

static bool continues(const struct dump *dump, neomm_vaddr_t vaddr,
                      const struct neomm_mapping *leaf)
{
    const struct neomm_mapping *first = &dump->first;
    if (!dump->any || vaddr != dump->start + dump->size || leaf->state != first->state ||
        leaf->size != first->size)
        return false;
    if (leaf->state == NEOMM_MAPPING_SWAPPED)
        return leaf->swap.slot == first->swap.slot + (dump->size >> NEOMM_PAGE_SHIFT);
    return leaf->prot == first->prot && leaf->cache == first->cache &&
           leaf->paddr == first->paddr + dump->size;
}

static void visit(void *context, neomm_vaddr_t vaddr, const struct neomm_mapping *leaf)
{
    struct dump *dump = context;
    if (continues(dump, vaddr, leaf)) {
        dump->size += leaf->size;
        return;
    }
    print(dump);
    dump->any = true;
    dump->start = vaddr;
    dump->size = leaf->size;
    dump->first = *leaf;
}

void neomm_paging_dump(struct neomm *root, struct neomm_tables *tables, neomm_vaddr_t vaddr,
                       size_t size, neomm_report_fn *line, void *context)
{
    struct dump dump = {.line = line,
                        .context = context,
                        .half = neomm__tables_are_kernel(root, tables) ? 'k' : 'u'};
    if (neomm_paging_walk(root, tables, vaddr, size, visit, &dump) == NEOMM_OK)
        print(&dump);
}
