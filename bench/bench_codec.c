/* Benchmarks of the codecs, beside liblz4 and zstd where this host has them, and of the compressed
 * pool: on pages of --corpus, or on made-up ones.
 * SPDX-License-Identifier: MIT */
#include "bench.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE    4096u
#define MOST    20000u
#define FRAMES  NEOMM_POLICY_BATCH
#define LARGEST 3072u /* what the pool takes */
#define SLOTS   4096u

static uint8_t *pages;
static uint32_t page_count;
static uint8_t (*blocks)[PAGE];
static uint32_t *sizes;
static uint64_t work[8 * PAGE];

typedef int lz4_compress_fn(const char *from, char *to, int size, int capacity);
typedef int lz4_decompress_fn(const char *from, char *to, int size, int capacity);
typedef size_t zstd_compress_fn(void *context, void *to, size_t capacity, const void *from,
                                size_t size, int level);
typedef size_t zstd_decompress_fn(void *context, void *to, size_t capacity, const void *from,
                                  size_t size);

static struct {
    lz4_compress_fn *lz4_compress;
    lz4_decompress_fn *lz4_decompress;
    zstd_compress_fn *zstd_compress;
    zstd_decompress_fn *zstd_decompress;
    void *zstd_in, *zstd_out;
} peers;

bool bench_corpus_load(const char *path)
{
    FILE *file = fopen(path, "rb");
    pages = malloc((size_t)MOST * PAGE);
    page_count = file && pages ? (uint32_t)fread(pages, PAGE, MOST, file) : 0;
    if (page_count == 0)
        (void)fprintf(stderr, "neomm-bench: --corpus: %s has no pages\n", path);
    if (file)
        (void)fclose(file);
    return page_count != 0;
}

/* Small numbers, pointers to few places, words of letters, zeros: no program has just such. */
static void make_page(struct bench_machine *machine, uint8_t *page)
{
    for (uint32_t i = 0; i < PAGE; i += 8) {
        uint64_t draw = bench_random(machine), word = 0;
        if (draw % 8 < 2)
            word = draw >> 32 & 63;
        else if (draw % 8 < 4)
            word = 0x00007f1234560000u + (draw >> 32 & 0xfff8);
        else if (draw % 8 < 5)
            word = 0x6574616f696e7368u + (draw >> 20 & 0x0f0f0f0f0f0f0f0fu);
        memcpy(page + i, &word, sizeof(word));
    }
}

static void find_peers(void)
{
    static bool looked;
    if (looked)
        return;
    looked = true;
    void *lz4 = dlopen("liblz4.so.1", RTLD_NOW), *zstd = dlopen("libzstd.so.1", RTLD_NOW);
    void *(*context)(void);
    if (lz4) {
        *(void **)&peers.lz4_compress = dlsym(lz4, "LZ4_compress_default");
        *(void **)&peers.lz4_decompress = dlsym(lz4, "LZ4_decompress_safe");
    }
    if (!zstd)
        return;
    *(void **)&peers.zstd_compress = dlsym(zstd, "ZSTD_compressCCtx");
    *(void **)&peers.zstd_decompress = dlsym(zstd, "ZSTD_decompressDCtx");
    *(void **)&context = dlsym(zstd, "ZSTD_createCCtx");
    peers.zstd_in = context ? context() : NULL;
    *(void **)&context = dlsym(zstd, "ZSTD_createDCtx");
    peers.zstd_out = context ? context() : NULL;
}

static bool lz4_there(void)
{
    find_peers();
    return peers.lz4_compress && peers.lz4_decompress;
}

static bool zstd_there(void)
{
    find_peers();
    return peers.zstd_compress && peers.zstd_decompress && peers.zstd_in && peers.zstd_out;
}

static bool prepare(struct bench_machine *machine)
{
    if (!blocks) {
        blocks = malloc((size_t)MOST * PAGE);
        sizes = malloc(MOST * sizeof(*sizes));
    }
    if (!pages) {
        pages = malloc((size_t)2000 * PAGE);
        for (page_count = 0; pages && page_count < 2000; page_count++)
            make_page(machine, pages + (size_t)page_count * PAGE);
    }
    return pages && blocks && sizes;
}

const uint8_t *bench_corpus_page(struct bench_machine *machine, uint32_t i)
{
    return prepare(machine) ? pages + (size_t)(i % page_count) * PAGE : NULL;
}

enum codec { LZ4 = NEOMM_COMPRESSION_LZ4, DENSE = NEOMM_COMPRESSION_DENSE, PEER_LZ4, PEER_ZSTD };

static uint32_t compress(enum codec codec, uint32_t i)
{
    const uint8_t *page = pages + (size_t)i * PAGE;
    size_t size = 0;
    if (codec == PEER_LZ4)
        size = (size_t)peers.lz4_compress((const char *)page, (char *)blocks[i], PAGE, LARGEST);
    else if (codec == PEER_ZSTD)
        size = peers.zstd_compress(peers.zstd_in, blocks[i], PAGE, page, PAGE, 1);
    else
        size = neomm_codec_compress((uint32_t)codec, work, page, blocks[i], LARGEST);
    return size > LARGEST ? 0 : (uint32_t)size;
}

static bool decompress(enum codec codec, uint32_t i, uint8_t *page)
{
    if (codec == PEER_LZ4)
        return peers.lz4_decompress((const char *)blocks[i], (char *)page, (int)sizes[i], PAGE) ==
               (int)PAGE;
    if (codec == PEER_ZSTD)
        return peers.zstd_decompress(peers.zstd_out, page, PAGE, blocks[i], sizes[i]) == PAGE;
    return neomm_codec_decompress((uint32_t)codec, blocks[i], sizes[i], page) == NEOMM_OK;
}

static uint64_t in(enum codec codec, uint64_t count)
{
    uint64_t done = 0;
    for (; done < count; done++)
        sizes[done % page_count] = compress(codec, (uint32_t)(done % page_count));
    return done;
}

static uint64_t out(enum codec codec, struct bench_machine *machine, uint64_t count)
{
    uint8_t page[PAGE + 64];
    uint64_t done = 0, before = bench_time();
    for (uint32_t i = 0; i < page_count; i++)
        sizes[i] = compress(codec, i);
    machine->untimed += bench_time() - before;
    for (uint64_t i = 0; done < count; i++) {
        if (sizes[i % page_count] == 0)
            continue;
        if (!decompress(codec, (uint32_t)(i % page_count), page))
            return 0;
        done++;
    }
    return done;
}

/* Pages that do not get small enough count whole. */
static double ratio(enum codec codec)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < page_count; i++) {
        uint32_t size = compress(codec, i);
        bytes += size ? size : PAGE;
    }
    return bytes ? (double)page_count * PAGE / (double)bytes : 0;
}

#define SIDE(name, codec)                                                                          \
    static uint64_t name##_in(struct bench_machine *machine, uint64_t count)                       \
    {                                                                                              \
        (void)machine;                                                                             \
        return in(codec, count);                                                                   \
    }                                                                                              \
    static uint64_t name##_out(struct bench_machine *machine, uint64_t count)                      \
    {                                                                                              \
        return out(codec, machine, count);                                                         \
    }                                                                                              \
    static double name##_ratio(struct bench_machine *machine)                                      \
    {                                                                                              \
        (void)machine;                                                                             \
        return ratio(codec);                                                                       \
    }

SIDE(lz4, LZ4)
SIDE(dense, DENSE)
SIDE(peer_lz4, PEER_LZ4)
SIDE(peer_zstd, PEER_ZSTD)

/* ---- the checksum ---- */

typedef uint64_t xxh64_fn(const void *bytes, size_t size, uint64_t seed);
static xxh64_fn *xxh64;

static bool xxh64_there(void)
{
    void *library = xxh64 ? NULL : dlopen("libxxhash.so.0", RTLD_NOW);
    if (library)
        *(void **)&xxh64 = dlsym(library, "XXH64");
    return xxh64 != NULL;
}

static uint64_t sum_pages(struct bench_machine *machine, uint64_t count)
{
    uint64_t sum = 0;
    (void)machine;
    for (uint64_t i = 0; i < count; i++)
        sum += neomm_page_checksum(pages + i % page_count * PAGE);
    bench_use(&sum);
    return count;
}

/* The same sums. */
static uint64_t peer_sum_pages(struct bench_machine *machine, uint64_t count)
{
    uint64_t sum = 0;
    (void)machine;
    if (xxh64(pages, PAGE, 0) != neomm_page_checksum(pages))
        return 0;
    for (uint64_t i = 0; i < count; i++)
        sum += xxh64(pages + i % page_count * PAGE, PAGE, 0);
    bench_use(&sum);
    return count;
}

/* ---- the pool ---- */

static struct neomm_swap_page batch[FRAMES];

/* A batch of the pages, as many as there are frames. */
static bool take_batch(struct bench_machine *machine)
{
    if (!prepare(machine))
        return false;
    for (uint32_t i = 0; i < FRAMES; i++) {
        if (neomm_pmm_alloc(machine->root, 0, 0, &batch[i].frame) != NEOMM_OK ||
            neomm_swap_alloc(machine->root, 1, &batch[i].entry) != NEOMM_OK)
            return false;
        void *memory = neomm_frame_map(machine->root, batch[i].frame);
        memcpy(memory, pages + (size_t)(i * 61 % page_count) * PAGE, PAGE);
        neomm_frame_unmap(machine->root, memory);
    }
    return neomm_swap_write(machine->root, batch, FRAMES) == NEOMM_OK;
}

static void free_batch(struct bench_machine *machine)
{
    for (uint32_t i = 0; i < FRAMES; i++) {
        (void)neomm_swap_free(machine->root, batch[i].entry);
        (void)neomm_pmm_free(machine->root, batch[i].frame, 0);
    }
}

static uint64_t pool_in(struct bench_machine *machine, uint64_t count)
{
    uint64_t done = 0;
    for (; done < count; done += FRAMES)
        if (neomm_swap_write(machine->root, batch, FRAMES) != NEOMM_OK)
            return 0;
    return done;
}

static uint64_t pool_out(struct bench_machine *machine, uint64_t count)
{
    uint64_t done = 0;
    for (; done < count; done += FRAMES)
        if (neomm_swap_read(machine->root, batch, FRAMES) != NEOMM_OK)
            return 0;
    return done;
}

/* Pages of memory that a frame of the pool holds, when it is filled. */
static double pool_ratio(struct bench_machine *machine)
{
    static struct neomm_swap_entry entry[SLOTS];
    struct neomm_swap_stats stats;
    uint32_t count = 0;
    struct neomm_swap_page page = batch[0];
    for (; count < 3000 && count < page_count; count++) {
        if (neomm_swap_alloc(machine->root, 2, &entry[count]) != NEOMM_OK)
            break;
        void *memory = neomm_frame_map(machine->root, page.frame);
        memcpy(memory, pages + (size_t)count * PAGE, PAGE);
        neomm_frame_unmap(machine->root, memory);
        page.entry = entry[count];
        (void)neomm_swap_write(machine->root, &page, 1);
    }
    neomm_swap_stats(machine->root, &stats);
    while (count-- > 0)
        (void)neomm_swap_free(machine->root, entry[count]);
    return stats.pool_frames ? (double)stats.pool_pages / (double)stats.pool_frames : 0;
}

static const struct bench_case cases[] = {
    {.name = "swap/lz4-in",
     .unit = "ns/page",
     .peer_name = "liblz4",
     .setup = prepare,
     .ours = lz4_in,
     .peer = peer_lz4_in,
     .peer_there = lz4_there},
    {.name = "swap/lz4-out",
     .unit = "ns/page",
     .peer_name = "liblz4",
     .setup = prepare,
     .ours = lz4_out,
     .peer = peer_lz4_out,
     .peer_there = lz4_there},
    {.name = "swap/lz4-ratio",
     .unit = "x",
     .peer_name = "liblz4",
     .setup = prepare,
     .ours_value = lz4_ratio,
     .peer_value = peer_lz4_ratio,
     .peer_there = lz4_there},
    {.name = "swap/dense-in",
     .unit = "ns/page",
     .peer_name = "zstd -1",
     .setup = prepare,
     .ours = dense_in,
     .peer = peer_zstd_in,
     .peer_there = zstd_there},
    {.name = "swap/dense-out",
     .unit = "ns/page",
     .peer_name = "zstd -1",
     .setup = prepare,
     .ours = dense_out,
     .peer = peer_zstd_out,
     .peer_there = zstd_there},
    {.name = "swap/dense-ratio",
     .unit = "x",
     .peer_name = "zstd -1",
     .setup = prepare,
     .ours_value = dense_ratio,
     .peer_value = peer_zstd_ratio,
     .peer_there = zstd_there},
    {.name = "swap/checksum",
     .unit = "ns/page",
     .peer_name = "xxHash",
     .setup = prepare,
     .ours = sum_pages,
     .peer = peer_sum_pages,
     .peer_there = xxh64_there},
    {.name = "swap/pool-in",
     .unit = "ns/page",
     .setup = take_batch,
     .teardown = free_batch,
     .ours = pool_in},
    {.name = "swap/pool-out",
     .unit = "ns/page",
     .setup = take_batch,
     .teardown = free_batch,
     .ours = pool_out},
    {.name = "swap/pool-ratio",
     .unit = "x",
     .setup = take_batch,
     .teardown = free_batch,
     .ours_value = pool_ratio},
};

const struct bench_layer bench_codec = {.name = "swap",
                                        .layer = SIM_LAYER_SWAP,
                                        .ram_bytes = (uint64_t)64 << 20,
                                        .swap_pages = SLOTS,
                                        .cases = cases,
                                        .case_count = BENCH_COUNT(cases)};
