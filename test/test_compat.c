/* The names that NeoOS and IR0 kernels know, called as they call them.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include <neomm/compat.h>

static bool open_machine(struct ktap *t, struct env *env)
{
    static const enum neomm_format formats[] = ENV_FORMATS;
    struct env_options options = {.layer = ENV_VMM, .format = formats[t->parameter]};
    return env_open(t, env, &options);
}

static void physical_pages(struct ktap *t)
{
    struct env env;
    if (!open_machine(t, &env))
        return;
    neomm_paddr_t one = allocate_physical_page(), two = alloc_physical_page();
    EXPECT(t, one != 0 && two != 0 && one != two);
    EXPECT_EQ(t, (one | two) & (NEOMM_PAGE_SIZE - 1), 0);
    EXPECT(t, neomm_direct_pointer(env.root, one) != NULL);
    EXPECT_OK(t, free_physical_page(one));
    EXPECT_EQ(t, free_physical_page(one), NEOMM_E_DOUBLE_FREE);
    EXPECT_EQ(t, free_physical_page(two + 16), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, free_physical_page(two | (neomm_paddr_t)1 << 44), NEOMM_E_FOREIGN);
    EXPECT_EQ(t, free_physical_page(0), NEOMM_E_FOREIGN);
    EXPECT_OK(t, set_page_used(one));
    EXPECT_EQ(t, set_page_used(one), NEOMM_E_BUSY);
    EXPECT_EQ(t, set_page_used(two), NEOMM_E_BUSY);
    EXPECT_OK(t, set_page_free(one));
    EXPECT_OK(t, free_physical_page(two));
    env_close(t, &env);
}

static void no_physical_page_left(struct ktap *t)
{
    static neomm_paddr_t pages[4096];
    struct env env;
    uint32_t count = 0;
    if (!open_machine(t, &env))
        return;
    while (count < 4096 && (pages[count] = allocate_physical_page()) != 0)
        count++;
    EXPECT(t, count > 0 && count < 4096);
    EXPECT_EQ(t, alloc_physical_page(), 0);
    EXPECT(t, valloc(NEOMM_PAGE_SIZE * 16, VM_READ | VM_WRITE) == NULL);
    while (count > 0)
        EXPECT_OK(t, free_physical_page(pages[--count]));
    env_close(t, &env);
}

static void heap_blocks(struct ktap *t)
{
    struct env env;
    if (!open_machine(t, &env))
        return;
    uint8_t *block = kmalloc(1024);
    ASSERT(t, block != NULL);
    for (unsigned i = 0; i < 1024; i++)
        block[i] = (uint8_t)i;
    block = krealloc(block, 5000);
    ASSERT(t, block != NULL);
    for (unsigned i = 0; i < 1024; i++)
        EXPECT_EQ(t, block[i], (uint8_t)i);
    uint8_t *zeros = kzalloc(100);
    ASSERT(t, zeros != NULL);
    for (unsigned i = 0; i < 100; i++)
        EXPECT_EQ(t, zeros[i], 0);
    kfree(zeros);
    kfree(block);
    kfree(NULL);
    env_close(t, &env);
}

static void window_pages(struct ktap *t)
{
    struct env env;
    if (!open_machine(t, &env))
        return;
    uint32_t *words = valloc(4096, VM_READ | VM_WRITE);
    ASSERT(t, words != NULL);
    EXPECT_EQ(t, words[1023], 0);
    words[1023] = 42;
    EXPECT_EQ(t, words[1023], 42);
    vfree(words);
    EXPECT(t, valloc(4096, VM_WRITE | VM_EXEC) == NULL);
    EXPECT(t, valloc(4096, VM_READ | VM_WRITE | VM_EXEC) == NULL);
    EXPECT(t, valloc(0, VM_READ) == NULL);
    env_close(t, &env);
}

static void mapped_pages(struct ktap *t)
{
    struct env env;
    neomm_vaddr_t vaddr;
    if (!open_machine(t, &env))
        return;
    neomm_paddr_t page = allocate_physical_page();
    ASSERT(t, page != 0);
    ASSERT_OK(t, neomm_window_alloc(env.root, NEOMM_PAGE_SIZE, &vaddr));
    EXPECT_EQ(t, map_page(vaddr, page, VM_READ | VM_WRITE | VM_EXEC), NEOMM_E_ACCESS);
    EXPECT_OK(t, map_page(vaddr, page, VM_READ | VM_WRITE));
    EXPECT_EQ(t, map_page(vaddr, page, VM_READ), NEOMM_E_EXISTS);
    volatile uint64_t *window = neomm_window_pointer(env.root, vaddr);
    volatile uint64_t *direct = neomm_direct_pointer(env.root, page);
    *window = 0x123456789abcdef0u;
    EXPECT(t, *direct == 0x123456789abcdef0u);
    EXPECT_OK(t, unmap_page(vaddr));
    EXPECT_EQ(t, unmap_page(vaddr), NEOMM_E_NOENT);
    EXPECT_EQ(t, map_page(vaddr + 5, page, VM_READ), NEOMM_E_ALIGN);
    EXPECT_EQ(t, map_page(0x400000, page, VM_READ), NEOMM_E_RANGE);
    EXPECT_OK(t, neomm_window_free(env.root, vaddr));
    EXPECT_OK(t, free_physical_page(page));
    env_close(t, &env);
}

/* Each kmalloc in the text has a record of its own. */
static void call_sites(struct ktap *t)
{
    const struct neomm_site *one = NEOMM_SITE(), *two = NEOMM_SITE();
    EXPECT(t, one != two);
    EXPECT_EQ(t, one->line, two->line);
    EXPECT(t, one->function[0] == 'c' && one->file[0] != '\0');
}

static const uint64_t formats_by_number[] = {0, 1};

static const struct ktap_case cases[] = {
    KTAP_CASE_WITH(physical_pages, formats_by_number),
    KTAP_CASE_WITH(no_physical_page_left, formats_by_number),
    KTAP_CASE_WITH(heap_blocks, formats_by_number),
    KTAP_CASE_WITH(window_pages, formats_by_number),
    KTAP_CASE_WITH(mapped_pages, formats_by_number),
    KTAP_CASE(call_sites),
};

KTAP_SUITE(compat, cases);
