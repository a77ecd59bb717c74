/* Encrypted swap: the cipher against published vectors, what is on the device, and pages to it and
 * back in batches, through the pool, from frames above the direct map, and on devices that fail.
 * SPDX-License-Identifier: MIT */
#include "env.h"
#include "high_machine.h"

#include "base/memory.h"
#include "swap/crypt.h"
#include "swap/pool.h"

#include <sim/sim.h>

#include <pthread.h>
#include <string.h>

#define WORDS  (NEOMM_PAGE_SIZE / sizeof(uint64_t))
#define FRAMES NEOMM_POLICY_BATCH
#define SLOTS  200u

static const enum neomm_format formats[] = ENV_FORMATS;

static uint64_t next(uint64_t *seed)
{
    return neomm__mix(*seed += 0x9e3779b97f4a7c15u);
}

static uint32_t below(uint64_t *seed, uint32_t limit)
{
    return (uint32_t)next(seed) % limit;
}

/* ---- the cipher ---- */

struct vector {
    const char *key, *nonce;
    uint32_t counter;
    const char *text; /* NULL: a block of zeros */
    const char *cipher;
};

#define ZERO_15      "000000000000000000000000000000"
#define ZERO_KEY     ZERO_15 ZERO_15 "0000"
#define COUNTING_KEY "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

/* RFC 8439: 2.3.2, 2.4.2, then A.1 and A.2 (whose first is the first of A.1). */
static const struct vector vectors[] = {
    {COUNTING_KEY, "000000090000004a00000000", 1, NULL,
     "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
     "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"},
    {COUNTING_KEY, "000000000000004a00000000", 1,
     "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
     "sunscreen would be it.",
     "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b"
     "f91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d8"
     "07ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736"
     "5af90bbf74a35be6b40b8eedf2785e42874d"},
    {ZERO_KEY, "000000000000000000000000", 0, NULL,
     "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
     "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"},
    {ZERO_KEY, "000000000000000000000000", 1, NULL,
     "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
     "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"},
    {ZERO_15 ZERO_15 "0001", "000000000000000000000000", 1, NULL,
     "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
     "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0"},
    {"00ff" ZERO_15 ZERO_15, "000000000000000000000000", 2, NULL,
     "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
     "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096"},
    {ZERO_KEY, "000000000000000000000002", 0, NULL,
     "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7"
     "8a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d"},
    {ZERO_15 ZERO_15 "0001", "000000000000000000000002", 1,
     "Any submission to the IETF intended by the Contributor for publication as all or part of an "
     "IETF Internet-Draft or RFC and any statement made within the context of an IETF activity is "
     "considered an \"IETF Contribution\". Such statements include oral statements in IETF "
     "sessions, as well as written and electronic communications made at any time or place, which "
     "are addressed to",
     "a3fbf07df3fa2fde4f376ca23e82737041605d9f4f4f57bd8cff2c1d4b7955ec"
     "2a97948bd3722915c8f3d337f7d370050e9e96d647b7c39f56e031ca5eb6250d"
     "4042e02785ececfa4b4bb5e8ead0440e20b6e8db09d881a7c6132f420e527950"
     "42bdfa7773d8a9051447b3291ce1411c680465552aa6c405b7764d5e87bea85a"
     "d00f8449ed8f72d0d662ab052691ca66424bc86d2df80ea41f43abf937d3259d"
     "c4b2d0dfb48a6c9139ddd7f76966e928e635553ba76c5c879d7b35d49eb2e62b"
     "0871cdac638939e25e8a1e0ef9d5280fa8ca328b351c3c765989cbcf3daa8b6c"
     "cc3aaf9f3979c92b3720fc88dc95ed84a1be059c6499b9fda236e7e818b04b0b"
     "c39c1e876b193bfe5569753f88128cc08aaa9b63d1a16f80ef2554d7189c411f"
     "5869ca52c5b83fa36ff216b9c1d30062bebcfd2dc5bce0911934fda79a86f6e6"
     "98ced759c3ff9b6477338f3da4f9cd8514ea9982ccafb341b2384dd902f3d1ab"
     "7ac61dd29c6f21ba5b862f3730e37cfdc4fd806c22f221"},
    {"1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0", "000000000000000000000002",
     42,
     "'Twas brillig, and the slithy toves\nDid gyre and gimble in the wabe:\n"
     "All mimsy were the borogoves,\nAnd the mome raths outgrabe.",
     "62e6347f95ed87a45ffae7426f27a1df5fb69110044c0d73118effa95b01e5cf"
     "166d3df2d721caf9b21e5fb14c616871fd84c54f9d65b283196c7fe4f60553eb"
     "f39c6402c42234e32a356b3e764312a61a5532055716ead6962568f87d3f3f77"
     "04c6a8d1bcd1bf4d50d6154b6da731b187b58dfd728afa36757a797ac188d1"},
};

static size_t unhex(const char *text, void *out)
{
    static const char digit[] = "0123456789abcdef";
    uint8_t *byte = out;
    size_t count = 0;
    for (; text[0]; text += 2)
        byte[count++] =
            (uint8_t)((strchr(digit, text[0]) - digit) << 4 | (strchr(digit, text[1]) - digit));
    return count;
}

static void published_vectors(struct ktap *t)
{
    for (size_t i = 0; i < NEOMM__COUNT_OF(vectors); i++) {
        const struct vector *v = &vectors[i];
        uint32_t key[NEOMM__CHACHA20_KEY], nonce[NEOMM__CHACHA20_NONCE];
        uint64_t text[64] = {0}, out[64], back[64];
        uint8_t want[sizeof(text)];
        size_t size = unhex(v->cipher, want), blocks = (size + 63) / 64;
        EXPECT_EQ(t, unhex(v->key, key), sizeof(key));
        EXPECT_EQ(t, unhex(v->nonce, nonce), sizeof(nonce));
        if (v->text)
            memcpy(text, v->text, strlen(v->text));
        EXPECT_EQ(t, v->text ? strlen(v->text) : 64, size);
        neomm__chacha20(key, nonce, v->counter, text, out, blocks);
        EXPECT_EQ(t, memcmp(out, want, size), 0);
        memcpy(back, out, sizeof(back));
        neomm__chacha20(key, nonce, v->counter, back, back, blocks);
        EXPECT_EQ(t, memcmp(back, text, blocks * 64), 0);
    }
}

/* ---- a machine ---- */

struct bench {
    struct ktap *t;
    struct env env;
    struct neomm *root;
    struct neomm_block_device *disk;
    neomm_frame_t frame[FRAMES];
    struct neomm_swap_entry entry[SLOTS];
    uint32_t entries;
};

static bool bench_open(struct ktap *t, struct bench *b, bool pool, uint64_t seed)
{
    struct neomm_config config;
    const struct env_options options = {.layer = ENV_SWAP,
                                        .format = formats[0],
                                        .cpus = 2,
                                        .seed = seed,
                                        .config = &config,
                                        .no_pool = !pool};
    neomm_config_default(&config);
    config.encryption = true;
    memset(b, 0, sizeof(*b));
    b->t = t;
    if (!env_open(t, &b->env, &options))
        return false;
    b->root = b->env.root;
    b->disk = sim_disk_create(b->env.machine, SLOTS + 1);
    sim_disk_make_swap(b->disk);
    EXPECT_OK(t, neomm_swap_add(b->root, b->disk, 0));
    EXPECT_OK(t, neomm_pmm_alloc_bulk(b->root, FRAMES, 0, b->frame));
    return true;
}

static void bench_take(struct bench *b, uint32_t count)
{
    for (; b->entries < count; b->entries++)
        EXPECT_OK(b->t, neomm_swap_alloc(b->root, 1, &b->entry[b->entries]));
}

static void bench_close(struct bench *b)
{
    for (uint32_t i = 0; i < b->entries; i++)
        EXPECT_OK(b->t, neomm_swap_free(b->root, b->entry[i]));
    EXPECT_OK(b->t, neomm_pmm_free_bulk(b->root, FRAMES, b->frame, NULL));
    env_close(b->t, &b->env);
}

static uint64_t *bytes_of(const struct bench *b, uint32_t frame)
{
    return neomm_direct_pointer(b->root, neomm_frame_paddr(b->frame[frame]));
}

/* Random words; of every fourth tag words that compress well. */
static void make_page(uint64_t *page, uint64_t tag)
{
    uint64_t seed = tag * 31 + 7;
    for (size_t i = 0; i < WORDS; i++)
        page[i] = tag % 4 == 0 ? tag << 32 | i / 8 : next(&seed);
}

static bool holds(const struct bench *b, uint32_t frame, uint64_t tag)
{
    uint64_t want[WORDS];
    make_page(want, tag);
    return memcmp(want, bytes_of(b, frame), sizeof(want)) == 0;
}

/* `count` pages from the frames to slots from `first` on, or back. */
static void set_batch(const struct bench *b, struct neomm_swap_page *pages, uint32_t first,
                      uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        pages[i] = (struct neomm_swap_page){b->entry[first + i], b->frame[i], NEOMM_OK};
}

static neomm_status write_batch(const struct bench *b, uint32_t first, uint32_t count, uint64_t tag,
                                uint64_t step)
{
    struct neomm_swap_page pages[FRAMES];
    for (uint32_t i = 0; i < count; i++)
        make_page(bytes_of(b, i), tag + i * step);
    set_batch(b, pages, first, count);
    return neomm_swap_write(b->root, pages, count);
}

static neomm_status read_batch(const struct bench *b, uint32_t first, uint32_t count)
{
    struct neomm_swap_page pages[FRAMES];
    for (uint32_t i = 0; i < count; i++)
        memset(bytes_of(b, i), 0x5a, NEOMM_PAGE_SIZE);
    set_batch(b, pages, first, count);
    return neomm_swap_read(b->root, pages, count);
}

static const uint64_t *stored(const struct bench *b, uint32_t entry)
{
    return sim_disk_page(b->disk, b->entry[entry].slot);
}

/* ---- what is on the device ---- */

/* Words that two pages have in the same place, any in any place of the other for `anywhere`. */
static uint32_t words_alike(const uint64_t *a, const uint64_t *b, bool anywhere)
{
    uint32_t alike = 0;
    for (size_t i = 0; i < WORDS; i++)
        for (size_t j = anywhere ? 0 : i; j < (anywhere ? WORDS : i + 1); j++)
            alike += a[i] == b[j];
    return alike;
}

/* No word of any page is there, in batches of each size, and the page in memory stays as it was. */
static void disk_shows_nothing(struct ktap *t)
{
    struct bench b;
    if (!bench_open(t, &b, false, 1))
        return;
    bench_take(&b, FRAMES);
    for (uint32_t count = 1; count <= FRAMES; count++) {
        uint64_t page[WORDS], tag = count * 100;
        EXPECT_OK(t, write_batch(&b, 0, count, tag, 1));
        for (uint32_t i = 0; i < count; i++) {
            EXPECT(t, holds(&b, i, tag + i));
            make_page(page, tag + i);
            EXPECT_EQ(t, words_alike(page, stored(&b, i), true), 0);
        }
        EXPECT_OK(t, read_batch(&b, 0, count));
        for (uint32_t i = 0; i < count; i++)
            EXPECT(t, holds(&b, i, tag + i));
    }
    bench_close(&b);
}

/* Equal pages in all slots, and again in the same ones, are always others; and so are the streams,
 * which the pages' difference to what is stored shows. */
static void nothing_repeats(struct ktap *t)
{
    static uint64_t seen[4 * FRAMES][WORDS];
    uint32_t count = 0;
    uint64_t page[WORDS];
    struct bench b;
    if (!bench_open(t, &b, false, 2))
        return;
    bench_take(&b, FRAMES);
    for (unsigned round = 0; round < 4; round++) {
        EXPECT_OK(t, write_batch(&b, 0, FRAMES, 5 + round, 0));
        make_page(page, 5 + round);
        for (uint32_t i = 0; i < FRAMES; i++, count++)
            for (size_t w = 0; w < WORDS; w++)
                seen[count][w] = stored(&b, i)[w] ^ page[w];
    }
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < i; j++)
            EXPECT_EQ(t, words_alike(seen[i], seen[j], false), 0);
    bench_close(&b);
}

/* A slot that was freed, of an area that was removed and added again: the same number, and another
 * stream. And another start of the layer has another key. */
static void another_use(struct ktap *t)
{
    uint64_t page[WORDS], stream[3][WORDS];
    struct bench b;
    if (!bench_open(t, &b, false, 3))
        return;
    make_page(page, 9);
    for (unsigned round = 0; round < 3; round++) {
        bench_take(&b, 1);
        EXPECT_EQ(t, b.entry[0].slot, 1);
        EXPECT_OK(t, write_batch(&b, 0, 1, 9, 0));
        for (size_t w = 0; w < WORDS; w++)
            stream[round][w] = stored(&b, 0)[w] ^ page[w];
        EXPECT_OK(t, neomm_swap_free(b.root, b.entry[0]));
        b.entries = 0;
        if (round == 0)
            EXPECT_OK(t, neomm_swap_remove(b.root, b.disk, NULL, NULL));
        else
            EXPECT_OK(t, neomm_swap_fini(b.root));
        if (round != 0)
            EXPECT_OK(t, neomm_swap_init(b.root));
        EXPECT_OK(t, neomm_swap_add(b.root, b.disk, 0));
    }
    for (unsigned i = 0; i < 3; i++)
        EXPECT_EQ(t, words_alike(stream[i], stream[(i + 1) % 3], false), 0);
    bench_close(&b);
}

/* The key is in the layer's state while that is there, and nowhere once it is not. */
static void key_is_wiped(struct ktap *t)
{
    uint32_t key[NEOMM__CHACHA20_KEY];
    struct bench b;
    if (!bench_open(t, &b, false, 4))
        return;
    const struct neomm__crypt *crypt = b.root->swap->crypt;
    bench_take(&b, 1);
    EXPECT_OK(t, write_batch(&b, 0, 1, 1, 0));
    memcpy(key, crypt->key, sizeof(key));
    EXPECT_OK(t, neomm_swap_free(b.root, b.entry[0]));
    b.entries = 0;
    EXPECT_OK(t, neomm_swap_fini(b.root));
    EXPECT(t, memcmp(key, crypt->key, sizeof(key)) != 0);
    EXPECT_OK(t, neomm_swap_init(b.root));
    EXPECT(t, memcmp(key, b.root->swap->crypt->key, sizeof(key)) != 0);
    bench_close(&b);
}

/* One word repeated needs no device, and the pool none until it writes back: then, too, nothing is
 * to be seen there. */
static void pool_writes_back(struct ktap *t)
{
    uint64_t page[WORDS];
    struct bench b;
    if (!bench_open(t, &b, true, 5))
        return;
    bench_take(&b, FRAMES);
    uint64_t before = sim_disk_operations(b.disk);
    EXPECT_OK(t, write_batch(&b, 0, FRAMES, 400, 4));
    EXPECT_EQ(t, sim_disk_operations(b.disk), before);
    while (neomm_swap_pool_write_back(b.root, FRAMES) != 0)
        ;
    EXPECT_EQ(t, sim_disk_operations(b.disk), before + FRAMES);
    for (uint32_t i = 0; i < FRAMES; i++) {
        EXPECT_EQ(t, neomm_swap_where(b.root, b.entry[i]), NEOMM_SWAP_ON_DEVICE);
        make_page(page, 400 + 4 * i);
        EXPECT_EQ(t, words_alike(page, stored(&b, i), true), 0);
    }
    EXPECT_OK(t, read_batch(&b, 0, FRAMES));
    for (uint32_t i = 0; i < FRAMES; i++)
        EXPECT(t, holds(&b, i, 400 + 4 * i));
    EXPECT_OK(t, write_batch(&b, 0, FRAMES, 800, 4));
    EXPECT_OK(t, read_batch(&b, 0, FRAMES));
    for (uint32_t i = 0; i < FRAMES; i++)
        EXPECT(t, holds(&b, i, 800 + 4 * i));
    bench_close(&b);
}

/* Few pages, so that the hand comes round to one more than once: each is written once, since a
 * second copy, with a stream of its own, would not have the checksum of the first. */
static void few_are_written_once(struct ktap *t)
{
    for (uint32_t count = 1; count <= 2 * NEOMM__POOL_BATCH; count++) {
        struct bench b;
        if (!bench_open(t, &b, true, count))
            return;
        bench_take(&b, count);
        EXPECT_OK(t, write_batch(&b, 0, count, 400, 4));
        EXPECT_OK(t, read_batch(&b, 0, count));
        uint64_t before = sim_disk_operations(b.disk);
        EXPECT_EQ(t, neomm_swap_pool_write_back(b.root, 2 * NEOMM__POOL_BATCH), count);
        EXPECT_EQ(t, sim_disk_operations(b.disk), before + count);
        EXPECT_OK(t, read_batch(&b, 0, count));
        for (uint32_t i = 0; i < count; i++)
            EXPECT(t, holds(&b, i, 400 + 4 * i));
        bench_close(&b);
    }
}

/* Any bit that changes on the device is found, for this page and no other. */
static void damage(struct ktap *t)
{
    struct neomm_swap_page pages[FRAMES];
    uint64_t seed = 1;
    struct bench b;
    if (!bench_open(t, &b, false, 6))
        return;
    bench_take(&b, FRAMES);
    EXPECT_OK(t, write_batch(&b, 0, FRAMES, 1000, 1));
    for (uint32_t i = 0; i < FRAMES; i++) {
        uint32_t bit = below(&seed, NEOMM_PAGE_SIZE * 8);
        uint8_t *byte = (uint8_t *)sim_disk_page(b.disk, b.entry[i].slot) + bit / 8;
        *byte ^= (uint8_t)(1u << bit % 8);
        set_batch(&b, pages, 0, FRAMES);
        EXPECT_EQ(t, neomm_swap_read(b.root, pages, FRAMES), NEOMM_E_CORRUPT);
        for (uint32_t j = 0; j < FRAMES; j++) {
            EXPECT_EQ(t, pages[j].status, i == j ? NEOMM_E_CORRUPT : NEOMM_OK);
            EXPECT(t, holds(&b, j, 1000 + j) == (i != j));
        }
        *byte ^= (uint8_t)(1u << bit % 8);
    }
    bench_close(&b);
}

/* ---- frames above the direct map ---- */

static void high_frames(struct ktap *t)
{
    const struct high_options options = {.format = formats[0], .cpus = 2};
    struct neomm_swap_page pages[FRAMES];
    neomm_frame_t frame[FRAMES];
    struct high_machine machine;
    uint64_t want[WORDS];
    ASSERT(t, high_open(t, &machine, &options));
    machine.root->config.encryption = true;
    machine.root->config.compression = NEOMM_COMPRESSION_OFF;
    EXPECT_OK(t, neomm_swap_init(machine.root));
    struct neomm_block_device *disk = sim_disk_create(machine.sim, FRAMES + 1);
    sim_disk_make_swap(disk);
    EXPECT_OK(t, neomm_swap_add(machine.root, disk, 0));
    EXPECT_OK(t, neomm_pmm_alloc_bulk(machine.root, FRAMES, NEOMM_HIGH, frame));
    for (uint32_t i = 0; i < FRAMES; i++) {
        EXPECT(t, frame[i].number >= machine.root->frames.direct);
        pages[i].frame = frame[i];
        EXPECT_OK(t, neomm_swap_alloc(machine.root, 1, &pages[i].entry));
        uint64_t *contents = neomm_frame_map(machine.root, frame[i]);
        make_page(contents, 50 + i);
        neomm_frame_unmap(machine.root, contents);
    }
    EXPECT_OK(t, neomm_swap_write(machine.root, pages, FRAMES));
    for (uint32_t i = 0; i < FRAMES; i++)
        pages[i].frame = frame[FRAMES - 1 - i];
    EXPECT_OK(t, neomm_swap_read(machine.root, pages, FRAMES));
    for (uint32_t i = 0; i < FRAMES; i++) {
        uint64_t *contents = neomm_frame_map(machine.root, pages[i].frame);
        make_page(want, 50 + i);
        EXPECT_EQ(t, memcmp(contents, want, sizeof(want)), 0);
        neomm_frame_unmap(machine.root, contents);
        EXPECT_EQ(t, words_alike(want, sim_disk_page(disk, pages[i].entry.slot), true), 0);
        EXPECT_OK(t, neomm_swap_free(machine.root, pages[i].entry));
    }
    EXPECT_OK(t, neomm_pmm_free_bulk(machine.root, FRAMES, frame, NULL));
    EXPECT_OK(t, neomm_swap_fini(machine.root));
    high_close(t, &machine);
}

/* ---- devices that fail ---- */

/* Batches of any size to any slots, with the pool and without, while one kind of fault happens
 * again and again: what is read without an error is what was written. */
static void storm(struct ktap *t)
{
    struct neomm_swap_page pages[FRAMES];
    uint64_t seed = t->parameter, tag[SLOTS] = {0}, tags = 0, good = 0;
    struct bench b;
    if (!bench_open(t, &b, seed % 2, seed))
        return;
    bench_take(&b, SLOTS);
    sim_disk_fault_every(b.disk, (enum sim_disk_fault)(t->parameter % 8), 31);
    for (unsigned step = 0; step < 400 && t->failures == 0; step++) {
        uint32_t count = 1 + below(&seed, FRAMES), first = below(&seed, SLOTS - count);
        bool write = below(&seed, 2);
        set_batch(&b, pages, first, count);
        for (uint32_t i = 0; write && i < count; i++)
            make_page(bytes_of(&b, i), ++tags);
        (void)(write ? neomm_swap_write : neomm_swap_read)(b.root, pages, count);
        for (uint32_t i = 0; i < count; i++) {
            if (write)
                tag[first + i] = pages[i].status == NEOMM_OK ? tags - count + 1 + i : 0;
            else if (pages[i].status == NEOMM_OK)
                EXPECT(t, tag[first + i] != 0 && holds(&b, i, tag[first + i]));
            good += pages[i].status == NEOMM_OK;
        }
        if (step % 16 == 0)
            (void)neomm_swap_pool_write_back(b.root, 8);
    }
    EXPECT(t, good > 1000);
    sim_disk_fault_every(b.disk, SIM_DISK_FAIL, 0);
    env_fsck(t, &b.env);
    bench_close(&b);
}

/* ---- several batches at a time ---- */

struct worker {
    pthread_t thread;
    struct bench *bench;
    uint32_t cpu;
    unsigned wrong; /* findings; the harness is not for threads */
};

/* Each CPU has half of the frames and 64 slots; batches of two CPUs are on their way together. */
static void *work(void *argument)
{
    struct worker *worker = argument;
    const struct bench *b = worker->bench;
    uint32_t half = FRAMES / 2, frame = worker->cpu * half;
    struct neomm_swap_page pages[FRAMES / 2];
    uint64_t seed = worker->cpu + 1;
    sim_bind(b->env.machine, worker->cpu);
    for (unsigned round = 0; round < 200; round++) {
        uint64_t tag = worker->cpu * 100000u + round * half;
        uint32_t first = worker->cpu * 64 + below(&seed, 64 - half);
        for (uint32_t i = 0; i < half; i++) {
            make_page(bytes_of(b, frame + i), tag + i);
            pages[i] = (struct neomm_swap_page){b->entry[first + i], b->frame[frame + i], NEOMM_OK};
        }
        worker->wrong += neomm_swap_write(b->root, pages, half) != NEOMM_OK;
        for (uint32_t i = 0; i < half; i++)
            memset(bytes_of(b, frame + i), 0x5a, NEOMM_PAGE_SIZE);
        worker->wrong += neomm_swap_read(b->root, pages, half) != NEOMM_OK;
        for (uint32_t i = 0; i < half; i++)
            worker->wrong += !holds(b, frame + i, tag + i);
    }
    sim_unbind();
    return NULL;
}

/* With so many sets of frames: one is waited for. */
static void threads(struct ktap *t)
{
    struct worker worker[2];
    struct bench b;
    if (!bench_open(t, &b, false, 7))
        return;
    bench_take(&b, 128);
    EXPECT_EQ(t, b.root->swap->crypt->free, 3);
    b.root->swap->crypt->free = (1u << t->parameter) - 1;
    for (uint32_t i = 0; i < 2; i++) {
        worker[i] = (struct worker){.bench = &b, .cpu = i};
        ASSERT(t, pthread_create(&worker[i].thread, NULL, work, &worker[i]) == 0);
    }
    for (uint32_t i = 0; i < 2; i++) {
        (void)pthread_join(worker[i].thread, NULL);
        EXPECT_EQ(t, worker[i].wrong, 0);
    }
    sim_bind(b.env.machine, 0);
    EXPECT_EQ(t, b.root->swap->crypt->free, (1u << t->parameter) - 1);
    bench_close(&b);
}

/* ---- fault points ---- */

/* A life of the layer; whatever it could not get, it gives back all it got. */
static neomm_status scenario(struct neomm *root, struct neomm_block_device *disk,
                             neomm_frame_t frame)
{
    struct neomm_swap_page page = {{0, 0, 0}, frame, NEOMM_OK};
    neomm_status status = neomm_swap_init(root), freed;
    if (status != NEOMM_OK)
        return status;
    status = neomm_swap_add(root, disk, 0);
    if (status == NEOMM_OK)
        status = neomm_swap_alloc(root, 1, &page.entry);
    if (status == NEOMM_OK) {
        status = neomm_swap_write(root, &page, 1);
        if (status == NEOMM_OK)
            status = neomm_swap_read(root, &page, 1);
        freed = neomm_swap_free(root, page.entry);
        status = status == NEOMM_OK ? freed : status;
    }
    freed = neomm_fsck(root, NULL, NULL) == 0 ? neomm_swap_fini(root) : NEOMM_E_CORRUPT;
    return freed == NEOMM_OK ? status : NEOMM_E_BUSY;
}

static void fault_sweep(struct ktap *t)
{
    struct neomm_config config;
    const struct env_options options = {
        .layer = ENV_PMM, .format = formats[0], .cpus = 4, .config = &config};
    neomm_frame_t frame;
    struct env env;
    uint64_t n = 0, passes;
    neomm_config_default(&config);
    config.encryption = true;
    if (!env_open(t, &env, &options))
        return;
    if (!env_fault_plan(&env, 0, false)) {
        ktap_skip(t, "needs the instrumented flavour");
        env_close(t, &env);
        return;
    }
    struct neomm_block_device *disk = sim_disk_create(env.machine, 10);
    sim_disk_make_swap(disk);
    EXPECT_OK(t, neomm_pmm_alloc(env.root, 0, 0, &frame));
    make_page(neomm_direct_pointer(env.root, neomm_frame_paddr(frame)), 1);
    do {
        uint64_t used = neomm_pmm_free_frames(env.root);
        (void)env_fault_plan(&env, ++n, t->parameter != 0);
        neomm_status status = scenario(env.root, disk, frame);
        passes = env_fault_count(&env);
        (void)env_fault_plan(&env, 0, false);
        EXPECT(t, n > passes ? status == NEOMM_OK : status != NEOMM_OK && status != NEOMM_E_BUSY);
        EXPECT_EQ(t, neomm_pmm_free_frames(env.root), used);
    } while (n <= passes && n < 400);
    EXPECT(t, n > 16 && n < 400);
    EXPECT_OK(t, neomm_pmm_free(env.root, frame, 0));
    env_close(t, &env);
}

/* Without the key nothing is kept for it. */
static void off(struct ktap *t)
{
    const struct env_options options = {.layer = ENV_SWAP, .format = formats[0]};
    struct env env;
    if (!env_open(t, &env, &options))
        return;
    EXPECT(t, !env.root->swap->crypt);
    struct neomm_block_device *disk = sim_disk_create(env.machine, 10);
    sim_disk_make_swap(disk);
    EXPECT_OK(t, neomm_swap_add(env.root, disk, 0));
    EXPECT(t, !env.root->swap->area[0].sequence);
    env_close(t, &env);
}

static const uint64_t storms[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const uint64_t sets[] = {1, 2};
static const uint64_t no_yes[] = {0, 1};

static const struct ktap_case cases[] = {
    KTAP_CASE(published_vectors),
    KTAP_CASE(off),
    KTAP_CASE(disk_shows_nothing),
    KTAP_CASE(nothing_repeats),
    KTAP_CASE(another_use),
    KTAP_CASE(key_is_wiped),
    KTAP_CASE(pool_writes_back),
    KTAP_CASE(few_are_written_once),
    KTAP_CASE(damage),
    KTAP_CASE(high_frames),
    KTAP_CASE_WITH(storm, storms),
    KTAP_CASE_WITH(threads, sets),
    KTAP_CASE_WITH(fault_sweep, no_yes),
};

KTAP_SUITE(swap_encrypt, cases);
