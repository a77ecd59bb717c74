/* Compares the fault counts of `neomm replay` with textbook FIFO, LRU and second chance, which
 * are written here a second time, over made-up traces and any that are given.
 * SPDX-License-Identifier: MIT
 *
 * usage: replay-exact NEOMM DIRECTORY [TRACE...]
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES_MAX (1u << 20)

/* ---- a trace as page references ---- */

struct references {
    uint32_t *page; /* dense page indices, repeats in a row left out */
    size_t count, capacity;
    uint64_t *number; /* of each page */
    uint32_t pages;
    uint64_t all; /* with the repeats */
};

static void out_of_host_memory(void)
{
    fprintf(stderr, "replay-exact: the host is out of memory\n");
    exit(2);
}

/* A plain chained hash from page numbers to indices. */
struct chain {
    uint32_t first[1 << 16];
    uint32_t next[PAGES_MAX];
};

static uint32_t page_index(struct references *refs, struct chain *chain, uint64_t number)
{
    uint32_t bucket = (uint32_t)(number * 2654435761u >> 7) & 0xffff;
    for (uint32_t at = chain->first[bucket]; at != 0; at = chain->next[at - 1])
        if (refs->number[at - 1] == number)
            return at - 1;
    if (refs->pages == PAGES_MAX)
        out_of_host_memory();
    refs->number[refs->pages] = number;
    chain->next[refs->pages] = chain->first[bucket];
    chain->first[bucket] = ++refs->pages;
    return refs->pages - 1;
}

static void add_reference(struct references *refs, struct chain *chain, uint64_t number)
{
    uint32_t page = page_index(refs, chain, number);
    refs->all++;
    if (refs->count > 0 && refs->page[refs->count - 1] == page)
        return;
    if (refs->count == refs->capacity) {
        refs->capacity = refs->capacity ? refs->capacity * 2 : 1 << 16;
        refs->page = realloc(refs->page, refs->capacity * sizeof(refs->page[0]));
        if (!refs->page)
            out_of_host_memory();
    }
    refs->page[refs->count++] = page;
}

static void read_trace(const char *path, struct references *refs)
{
    char line[256], kind[3];
    uint64_t address, size;
    struct chain *chain = calloc(1, sizeof(*chain));
    FILE *file = fopen(path, "r");
    memset(refs, 0, sizeof(*refs));
    refs->number = calloc(PAGES_MAX, sizeof(refs->number[0]));
    if (!chain || !file || !refs->number) {
        perror(path);
        exit(2);
    }
    while (fgets(line, sizeof(line), file)) {
        if (sscanf(line, "%2[ILSM ]%*[ ]%" SCNx64 ",%" SCNu64, kind, &address, &size) != 3)
            continue;
        for (uint64_t page = address / 4096; page <= (address + size - 1) / 4096; page++)
            add_reference(refs, chain, page);
    }
    fclose(file);
    free(chain);
}

/* ---- the textbook ---- */

static uint64_t textbook_fifo(const struct references *refs, uint32_t frames)
{
    uint32_t *ring = calloc(frames, sizeof(*ring));
    bool *present = calloc(refs->pages, sizeof(*present));
    uint32_t used = 0, oldest = 0;
    uint64_t faults = 0;
    for (size_t i = 0; i < refs->count; i++) {
        uint32_t page = refs->page[i];
        if (present[page])
            continue;
        faults++;
        present[page] = true;
        if (used < frames) {
            ring[used++] = page;
            continue;
        }
        present[ring[oldest]] = false;
        ring[oldest] = page;
        oldest = (oldest + 1) % frames;
    }
    free(ring);
    free(present);
    return faults;
}

/* The hand passes pages with the bit set and clears it; a page enters behind the hand with its
 * bit set. */
static uint64_t textbook_clock(const struct references *refs, uint32_t frames)
{
    uint32_t *ring = calloc(frames, sizeof(*ring));
    bool *bit = calloc(frames, sizeof(*bit));
    uint32_t *place = calloc(refs->pages, sizeof(*place)); /* place in the ring + 1 */
    uint32_t used = 0, hand = 0;
    uint64_t faults = 0;
    for (size_t i = 0; i < refs->count; i++) {
        uint32_t page = refs->page[i];
        uint32_t at;
        if (place[page] != 0) {
            bit[place[page] - 1] = true;
            continue;
        }
        faults++;
        if (used < frames) {
            at = used++;
        } else {
            while (bit[hand]) {
                bit[hand] = false;
                hand = (hand + 1) % frames;
            }
            at = hand;
            hand = (hand + 1) % frames;
            place[ring[at]] = 0;
        }
        ring[at] = page;
        bit[at] = true;
        place[page] = at + 1;
    }
    free(ring);
    free(bit);
    free(place);
    return faults;
}

/* By time stamps in a list from old to new. */
static uint64_t textbook_lru(const struct references *refs, uint32_t frames)
{
    uint32_t nobody = refs->pages, used = 0;
    uint32_t *older = calloc(refs->pages + 1u, sizeof(*older));
    uint32_t *newer = calloc(refs->pages + 1u, sizeof(*newer));
    bool *present = calloc(refs->pages, sizeof(*present));
    uint64_t faults = 0;
    older[nobody] = newer[nobody] = nobody; /* a ring: newer[nobody] is the oldest */
    for (size_t i = 0; i < refs->count; i++) {
        uint32_t page = refs->page[i];
        if (present[page]) {
            newer[older[page]] = newer[page];
            older[newer[page]] = older[page];
        } else {
            faults++;
            if (used == frames) {
                uint32_t victim = newer[nobody];
                newer[nobody] = newer[victim];
                older[newer[victim]] = nobody;
                present[victim] = false;
            } else {
                used++;
            }
            present[page] = true;
        }
        newer[page] = nobody;
        older[page] = older[nobody];
        newer[older[nobody]] = page;
        older[nobody] = page;
    }
    free(older);
    free(newer);
    free(present);
    return faults;
}

/* ---- the tool ---- */

static uint64_t field(const char *json, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof(quoted), "\"%s\":", key);
    const char *at = strstr(json, quoted);
    return at ? strtoull(at + strlen(quoted), NULL, 10) : UINT64_MAX;
}

static int run_tool(const char *neomm, const char *arguments, const char *trace, char *json,
                    size_t size)
{
    char command[8192];
    snprintf(command, sizeof(command), "'%s' replay --json %s '%s'", neomm, arguments, trace);
    FILE *pipe = popen(command, "r");
    if (!pipe)
        return -1;
    size_t got = fread(json, 1, size - 1, pipe);
    json[got] = '\0';
    return pclose(pipe);
}

static unsigned checks, failures;

static void check(const char *trace, const char *arguments, const char *what, uint64_t have,
                  uint64_t want)
{
    checks++;
    if (have == want)
        return;
    failures++;
    printf("# %s %s: %s is %" PRIu64 ", not %" PRIu64 "\n", trace, arguments, what, have, want);
}

static void compare(const char *neomm, const char *trace, const struct references *refs,
                    uint32_t frames)
{
    static const struct {
        const char *name;
        uint64_t (*faults)(const struct references *refs, uint32_t frames);
    } policy[] = {{"fifo", textbook_fifo}, {"clock", textbook_clock}, {"lru", textbook_lru}};
    for (unsigned i = 0; i < 3; i++) {
        char arguments[128], json[4096];
        snprintf(arguments, sizeof(arguments), "--policy %s --resident-limit %up%s", policy[i].name,
                 frames, frames % 2 ? " --format 5level" : "");
        int status = run_tool(neomm, arguments, trace, json, sizeof(json));
        uint64_t faults = policy[i].faults(refs, frames);
        check(trace, arguments, "exit status", (uint64_t)status, 0);
        check(trace, arguments, "faults.total", field(json, "total"), faults);
        check(trace, arguments, "faults.zero", field(json, "zero"), refs->pages);
        check(trace, arguments, "faults.swap_in", field(json, "swap_in"), faults - refs->pages);
        check(trace, arguments, "references", field(json, "references"), refs->all);
        check(trace, arguments, "hits and walks", field(json, "tlb_hits") + field(json, "walks"),
              refs->all);
        check(trace, arguments, "evictions", field(json, "evictions"),
              faults - (refs->pages < frames ? refs->pages : frames));
        check(trace, arguments, "content_errors", field(json, "content_errors"), 0);
    }
}

/* Damage must be found, with and without swapping. */
static void compare_injected(const char *neomm, const char *trace)
{
    static const char *const arguments[] = {"--inject lose-write",
                                            "--inject swap-pages",
                                            "--inject stale-read",
                                            "--inject lose-write --resident-limit 9p",
                                            "--inject swap-pages --resident-limit 9p",
                                            "--inject stale-read --resident-limit 9p"};
    for (unsigned i = 0; i < sizeof(arguments) / sizeof(arguments[0]); i++) {
        char json[4096];
        int status = run_tool(neomm, arguments[i], trace, json, sizeof(json));
        uint64_t errors = field(json, "content_errors");
        check(trace, arguments[i], "content_errors > 0", errors > 0 && errors != UINT64_MAX, 1);
        check(trace, arguments[i], "exit status != 0", status != 0, 1);
    }
}

/* ---- made-up traces ---- */

static uint64_t state = 12345;

static uint32_t random_below(uint32_t limit)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % limit);
}

/* Shape 0: uniform; 1: a loop; 2: skewed; 3: scans over a hot set. */
static uint32_t pick_page(unsigned shape, unsigned i, uint32_t pages)
{
    switch (shape) {
    case 0:
        return random_below(pages);
    case 1:
        return i / 3 % pages;
    case 2:
        return random_below(1 + random_below(1 + random_below(pages)));
    default:
        return i / 64 % 4 ? random_below(1 + pages / 8) : i % pages;
    }
}

static void make_trace(const char *path, unsigned shape, uint32_t pages, unsigned lines)
{
    static const char *const kind[] = {"I ", " L", " S", " M"};
    FILE *file = fopen(path, "w");
    if (!file) {
        perror(path);
        exit(2);
    }
    fprintf(file, "==1== Lackey, an example Valgrind tool\nhello from the program\n");
    for (unsigned i = 0; i < lines; i++) {
        uint32_t page = pick_page(shape, i, pages);
        uint32_t offset = random_below(8) ? random_below(4000) : 4080 + random_below(16);
        uint64_t address = (page % 3 ? 0x400000u : 0x7ffe00000000u) + page * 4096ull + offset;
        fprintf(file, "%s %08" PRIx64 ",%u\n", kind[random_below(4)], address,
                1u << random_below(6));
    }
    fclose(file);
}

static void run_trace(const char *neomm, const char *trace, bool made_up)
{
    static const uint32_t limits[] = {1, 2, 3, 5, 8, 16, 31, 64, 200};
    struct references refs;
    read_trace(trace, &refs);
    for (unsigned i = 0; made_up && i < sizeof(limits) / sizeof(limits[0]); i++)
        compare(neomm, trace, &refs, limits[i]);
    for (unsigned i = 1; !made_up && i <= 6; i += 2)
        compare(neomm, trace, &refs, 1 + refs.pages * i / 10);
    compare_injected(neomm, trace);
    free(refs.page);
    free(refs.number);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: replay-exact NEOMM DIRECTORY [TRACE...]\n");
        return 2;
    }
    for (unsigned shape = 0; shape < 4; shape++) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/shape%u.lackey", argv[2], shape);
        make_trace(path, shape, 20 + 60 * shape, 6000);
        run_trace(argv[1], path, true);
    }
    for (int i = 3; i < argc; i++)
        run_trace(argv[1], argv[i], false);
    printf("%u checks, %u failures\n", checks, failures);
    return failures ? 1 : 0;
}
