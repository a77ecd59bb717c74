/* What memory must hold.
 * SPDX-License-Identifier: MIT */
#include "oracle.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 4096u /* a power of two, like every capacity */

static size_t place(const struct oracle *oracle, uint64_t number)
{
    size_t at = (size_t)(number * 0x9e3779b97f4a7c15u >> 20) & (oracle->capacity - 1);
    while (oracle->table[at] && oracle->table[at]->number != number)
        at = (at + 1) & (oracle->capacity - 1);
    return at;
}

bool oracle_create(struct oracle *oracle)
{
    memset(oracle, 0, sizeof(*oracle));
    oracle->table = calloc(FIRST_CAPACITY, sizeof(oracle->table[0]));
    oracle->capacity = FIRST_CAPACITY;
    return oracle->table != NULL;
}

void oracle_destroy(struct oracle *oracle)
{
    for (size_t i = 0; i < oracle->capacity; i++) {
        if (oracle->table[i])
            free(oracle->table[i]->contents);
        free(oracle->table[i]);
    }
    free(oracle->table);
    oracle->table = NULL;
}

static bool grow(struct oracle *oracle)
{
    struct oracle old = *oracle;
    oracle->capacity *= 2;
    oracle->table = calloc(oracle->capacity, sizeof(oracle->table[0]));
    if (!oracle->table) {
        *oracle = old;
        return false;
    }
    for (size_t i = 0; i < old.capacity; i++)
        if (old.table[i])
            oracle->table[place(oracle, old.table[i]->number)] = old.table[i];
    free(old.table);
    return true;
}

static struct oracle_page *make_page(uint64_t number)
{
    struct oracle_page *page = calloc(1, sizeof(*page));
    if (!page)
        return NULL;
    page->number = number;
    page->contents = calloc(1, 4096);
    if (page->contents)
        return page;
    free(page);
    return NULL;
}

struct oracle_page *oracle_find_slowly(struct oracle *oracle, uint64_t number)
{
    if (oracle->count * 2 >= oracle->capacity && !grow(oracle))
        return NULL;
    struct oracle_page **entry = &oracle->table[place(oracle, number)];
    if (!*entry) {
        *entry = make_page(number);
        if (!*entry)
            return NULL;
        oracle->count++;
    }
    oracle->front[number % ORACLE_FRONT] = *entry;
    return *entry;
}
