/* Pages made smaller than LZ4 makes them: matches as in LZ77, with prefix codes made for the page.
 * SPDX-License-Identifier: MIT
 *
 * A block is a row of bits, the lowest of each byte first:
 *
 *   16 code lengths of 3 bits for each of 8 alphabets
 *   [run: code, more bits][literals: codes of both halves][distance][length] [run] ...
 *
 * It ends when the page is full. An alphabet has 16 symbols; for runs, distances and lengths some
 * stand for ranges, with a few bits behind that say which. Distances are those of the last three
 * matches, or new; multiples of 8, as between pointers and small numbers, have symbols of their
 * own. The two halves of a literal byte have an alphabet each, the lower one by what the upper one
 * is. All lengths 0: the only symbol, or none, takes no bits.
 *
 * Codes are canonical and have at most 7 bits, so that one look at 128 entries decodes them, and
 * there is no division and nothing wider than a word.
 */
#include "swap/codec.h"

#include "base/bits.h"
#include "base/memory.h"

#define PAGE           ((uint32_t)NEOMM_PAGE_SIZE)
#define SYMBOLS        16u
#define CODE_BITS      7u
#define HASH_BITS      11u
#define DEPTH          4u  /* places that are looked at for a match */
#define GOOD           32u /* a match so long is taken without looking further */
#define LEAST          2u  /* bytes of a match at one of the last distances */
#define LEAST_NEW      3u  /* at another */
#define RECENT         3u
#define SEQUENCES      (PAGE / 2 + 1)
#define HALF_ALPHABETS 4u

enum alphabet { RUN, DISTANCE, LENGTH, UPPER, LOWER, ALPHABETS = LOWER + HALF_ALPHABETS };

#define HEADER_BITS (ALPHABETS * SYMBOLS * 3u)

/* A symbol stands for 2^bits numbers from `base` on, `step` apart. */
struct range {
    uint16_t base;
    uint8_t bits, shift;
};

static const struct range run_range[SYMBOLS] = {
    {0, 0, 0}, {1, 0, 0}, {2, 0, 0},  {3, 0, 0},  {4, 0, 0},  {5, 0, 0},  {6, 0, 0},  {7, 0, 0},
    {8, 0, 0}, {9, 1, 0}, {11, 2, 0}, {15, 3, 0}, {23, 4, 0}, {39, 5, 0}, {71, 7, 0}, {199, 12, 0}};
static const struct range length_range[SYMBOLS] = {
    {2, 0, 0},  {3, 0, 0},  {4, 0, 0},  {5, 0, 0},   {6, 0, 0},  {7, 0, 0},
    {8, 0, 0},  {9, 0, 0},  {10, 1, 0}, {12, 2, 0},  {16, 2, 0}, {20, 3, 0},
    {28, 4, 0}, {44, 5, 0}, {76, 7, 0}, {204, 12, 0}};
/* The first three are the recent ones. */
static const struct range distance_range[SYMBOLS] = {
    {0, 0, 0},   {0, 0, 0},   {0, 0, 0},    {8, 2, 3},    {40, 3, 3}, {104, 4, 3},
    {232, 5, 3}, {488, 9, 3}, {4, 4, 3},    {132, 9, 3},  {1, 4, 0},  {17, 5, 0},
    {49, 6, 0},  {113, 8, 0}, {369, 10, 0}, {1393, 12, 0}};

/* Which alphabet the lower half of a byte with this upper half is of. */
static inline uint32_t lower_of(uint32_t upper)
{
    static const uint8_t alphabet[SYMBOLS] = {0, 3, 3, 3, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3};
    return LOWER + alphabet[upper];
}

/* ---- matches ---- */

struct sequence {
    uint16_t literals; /* before the match */
    uint16_t length;   /* 0: none, the page ends */
    uint16_t distance;
    uint8_t symbol;
};

struct code {
    uint8_t bits[SYMBOLS];
    uint8_t word[SYMBOLS]; /* lowest bit first */
};

struct encoder {
    const uint8_t *page;
    uint32_t count; /* sequences */
    uint16_t recent[RECENT];
    uint16_t head[1u << HASH_BITS]; /* by hash: 1 + the last place, 0: none */
    uint16_t chain[PAGE];           /* 1 + the place before with the same hash */
    struct sequence sequence[SEQUENCES];
    uint16_t frequency[ALPHABETS][SYMBOLS];
    struct code code[ALPHABETS];
};

_Static_assert(sizeof(struct encoder) <= NEOMM__CODEC_WORK, "it is the workspace");

struct match {
    uint32_t length, distance;
    int32_t score; /* bits that it saves, about */
};

static uint32_t agreement(const uint8_t *page, uint32_t a, uint32_t b)
{
    uint32_t from = b;
    for (; b + sizeof(neomm__word_t) <= PAGE;
         a += (uint32_t)sizeof(neomm__word_t), b += (uint32_t)sizeof(neomm__word_t)) {
        neomm__word_t differ = neomm__codec_load_word(page + a) ^ neomm__codec_load_word(page + b);
        if (differ != 0)
            return b - from + neomm__lowest_bit(differ) / 8;
    }
    while (b < PAGE && page[a] == page[b]) {
        a++;
        b++;
    }
    return b - from;
}

/* Of a run or a length; the first of their symbols begin side by side. */
static inline uint32_t symbol_of(const struct range *range, uint32_t value)
{
    uint32_t symbol = 8;
    if (value - range->base < symbol)
        return value - range->base;
    while (symbol < SYMBOLS - 1 && value >= range[symbol + 1].base)
        symbol++;
    return symbol;
}

/* The symbol of a distance that is not recent: of a multiple of 8, of an odd multiple of 4, or of
 * any. */
static uint32_t distance_symbol(uint32_t distance)
{
    uint32_t symbol = distance % 8 == 0 ? 7 : distance % 8 == 4 ? 9 : 15;
    while (distance < distance_range[symbol].base)
        symbol--;
    return symbol;
}

static void insert(struct encoder *e, uint32_t at)
{
    if (at + 4 > PAGE)
        return;
    uint16_t *head = &e->head[neomm__codec_load_32(e->page + at) * 2654435761u >> (32 - HASH_BITS)];
    e->chain[at] = *head;
    *head = (uint16_t)(at + 1);
}

static void consider(struct match *best, uint32_t length, uint32_t distance, uint32_t cost)
{
    int32_t score = (int32_t)(length * 6) - (int32_t)cost;
    if (score > best->score)
        *best = (struct match){length, distance, score};
}

static struct match find_match(const struct encoder *e, uint32_t at)
{
    struct match best = {0, 0, 0};
    for (uint32_t i = 0; i < RECENT; i++)
        if (e->recent[i] <= at && e->page[at - e->recent[i]] == e->page[at]) {
            uint32_t length = agreement(e->page, at - e->recent[i], at);
            if (length >= LEAST)
                consider(&best, length, e->recent[i], 5 + i);
        }
    if (at + 4 > PAGE || best.length >= GOOD)
        return best;
    uint32_t place = e->head[neomm__codec_load_32(e->page + at) * 2654435761u >> (32 - HASH_BITS)];
    for (uint32_t i = 0; i < DEPTH && place != 0; i++, place = e->chain[place - 1]) {
        uint32_t distance = at - (place - 1);
        if (at + best.length >= PAGE ||
            e->page[place - 1 + best.length] != e->page[at + best.length] ||
            neomm__codec_load_32(e->page + place - 1) != neomm__codec_load_32(e->page + at))
            continue;
        uint32_t length = agreement(e->page, place - 1, at);
        consider(&best, length, distance, 7 + distance_range[distance_symbol(distance)].bits);
    }
    return best;
}

static void use_distance(uint16_t *recent, uint32_t distance)
{
    uint16_t carried = (uint16_t)distance;
    for (uint32_t i = 0; i < RECENT; i++) {
        uint16_t old = recent[i];
        recent[i] = carried;
        if (old == distance)
            return;
        carried = old;
    }
}

static void add_sequence(struct encoder *e, uint32_t literals, const struct match *match)
{
    struct sequence *sequence = &e->sequence[e->count++];
    uint32_t symbol = 0;
    while (symbol < RECENT && e->recent[symbol] != match->distance)
        symbol++;
    *sequence =
        (struct sequence){(uint16_t)literals, (uint16_t)match->length, (uint16_t)match->distance,
                          (uint8_t)(symbol < RECENT ? symbol : distance_symbol(match->distance))};
    use_distance(e->recent, match->distance);
}

static void start(struct encoder *e, const uint8_t *page)
{
    static const uint16_t usual[RECENT] = {8, 16, 1};
    e->page = page;
    e->count = 0;
    memcpy(e->recent, usual, sizeof(usual));
    memset(e->head, 0, sizeof(e->head));
    memset(e->frequency, 0, sizeof(e->frequency));
}

/* Takes a match only if the next place has no better one. */
static void find_sequences(struct encoder *e)
{
    uint32_t anchor = 0, at = 0;
    struct match match = find_match(e, 0);
    while (at < PAGE) {
        insert(e, at);
        struct match later =
            at + 1 < PAGE && match.length < GOOD ? find_match(e, at + 1) : (struct match){0, 0, 0};
        if (match.length == 0 || later.score > match.score + 5) {
            match = later;
            at++;
            continue;
        }
        add_sequence(e, at - anchor, &match);
        for (uint32_t i = 1; i < match.length; i++)
            insert(e, at + i);
        at += match.length;
        anchor = at;
        if (at < PAGE)
            match = find_match(e, at);
    }
    if (anchor < PAGE)
        e->sequence[e->count++] = (struct sequence){(uint16_t)(PAGE - anchor), 0, 0, 0};
}

/* ---- codes ---- */

/* Symbols that are there, by ascending frequency. */
static uint32_t sort_symbols(const uint32_t *frequency, uint8_t *sorted)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < SYMBOLS; i++) {
        uint32_t at = count;
        if (frequency[i] == 0)
            continue;
        for (; at > 0 && frequency[sorted[at - 1]] > frequency[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = (uint8_t)i;
        count++;
    }
    return count;
}

/* A code's tree: leaves in ascending order of weight, then inner nodes, which come so, too. */
struct tree {
    uint32_t weight[2 * SYMBOLS];
    uint8_t parent[2 * SYMBOLS], depth[2 * SYMBOLS];
    uint32_t leaves, leaf, inner, nodes; /* leaf, inner: the next to be joined */
};

static uint32_t lightest(struct tree *tree)
{
    bool leaf =
        tree->leaf < tree->leaves &&
        (tree->inner == tree->nodes || tree->weight[tree->leaf] <= tree->weight[tree->inner]);
    return leaf ? tree->leaf++ : tree->inner++;
}

/* Code lengths after Huffman (1952) for frequencies of which at least two are not 0; returns the
 * longest. */
static uint32_t huffman(const uint32_t *frequency, uint8_t *bits)
{
    uint8_t sorted[SYMBOLS];
    struct tree tree = {{0}, {0}, {0}, 0, 0, 0, 0};
    tree.leaves = tree.inner = tree.nodes = sort_symbols(frequency, sorted);
    for (uint32_t i = 0; i < tree.leaves; i++)
        tree.weight[i] = frequency[sorted[i]];
    for (; tree.nodes < 2 * tree.leaves - 1; tree.nodes++) {
        uint32_t a = lightest(&tree), b = lightest(&tree);
        tree.weight[tree.nodes] = tree.weight[a] + tree.weight[b];
        tree.parent[a] = tree.parent[b] = (uint8_t)tree.nodes;
    }
    tree.depth[tree.nodes - 1] = 0;
    for (uint32_t i = tree.nodes - 1; i-- > 0;)
        tree.depth[i] = (uint8_t)(tree.depth[tree.parent[i]] + 1);
    for (uint32_t i = 0; i < tree.leaves; i++)
        bits[sorted[i]] = tree.depth[i];
    return tree.depth[0];
}

static uint32_t reversed(uint32_t word, uint32_t bits)
{
    uint32_t turned = 0;
    for (uint32_t i = 0; i < bits; i++)
        turned |= (word >> i & 1) << (bits - 1 - i);
    return turned;
}

/* The words of a canonical code: ascending by length, then by symbol. */
static void assign_words(struct code *code)
{
    uint32_t word = 0;
    for (uint32_t length = 1; length <= CODE_BITS; length++, word <<= 1)
        for (uint32_t i = 0; i < SYMBOLS; i++)
            if (code->bits[i] == length)
                code->word[i] = (uint8_t)reversed(word++, length);
}

/* Where a code would be too long frequencies are made more alike. */
static void make_code(const uint16_t *frequency, struct code *code)
{
    uint32_t scaled[SYMBOLS], kinds = 0;
    for (uint32_t i = 0; i < SYMBOLS; i++) {
        scaled[i] = frequency[i];
        kinds += frequency[i] != 0;
    }
    memset(code, 0, sizeof(*code));
    if (kinds == 1) /* a code of one bit, so that all lengths 0 means that there is nothing */
        for (uint32_t i = 0; i < SYMBOLS; i++)
            code->bits[i] = frequency[i] != 0;
    while (kinds > 1 && huffman(scaled, code->bits) > CODE_BITS)
        for (uint32_t i = 0; i < SYMBOLS; i++)
            scaled[i] = scaled[i] ? scaled[i] / 2 + 1 : 0;
    assign_words(code);
}

static void count_symbols(struct encoder *e)
{
    const uint8_t *literal = e->page;
    for (uint32_t i = 0; i < e->count; i++) {
        const struct sequence *sequence = &e->sequence[i];
        e->frequency[RUN][symbol_of(run_range, sequence->literals)]++;
        for (uint32_t j = 0; j < sequence->literals; j++, literal++) {
            e->frequency[UPPER][*literal >> 4]++;
            e->frequency[lower_of(*literal >> 4)][*literal & 15]++;
        }
        if (sequence->length == 0)
            break;
        e->frequency[DISTANCE][sequence->symbol]++;
        e->frequency[LENGTH][symbol_of(length_range, sequence->length)]++;
        literal += sequence->length;
    }
}

static const struct range *ranges_of(uint32_t alphabet)
{
    return alphabet == RUN ? run_range : alphabet == LENGTH ? length_range : distance_range;
}

static uint32_t size_in_bits(const struct encoder *e)
{
    uint32_t bits = HEADER_BITS;
    for (uint32_t a = 0; a < ALPHABETS; a++)
        for (uint32_t i = 0; i < SYMBOLS; i++)
            bits += e->frequency[a][i] *
                    (uint32_t)(e->code[a].bits[i] + (a < UPPER ? ranges_of(a)[i].bits : 0));
    return bits;
}

/* ---- bits out ---- */

struct writer {
    uint8_t *out;
    uint32_t word, filled;
};

/* At most 16 bits. */
static inline void put(struct writer *w, uint32_t value, uint32_t bits)
{
    w->word |= value << w->filled;
    w->filled += bits;
    while (w->filled >= 8) {
        *w->out++ = (uint8_t)w->word;
        w->word >>= 8;
        w->filled -= 8;
    }
}

static inline void put_symbol(struct writer *w, const struct encoder *e, uint32_t alphabet,
                              uint32_t symbol)
{
    put(w, e->code[alphabet].word[symbol], e->code[alphabet].bits[symbol]);
}

static void put_number(struct writer *w, const struct encoder *e, uint32_t alphabet,
                       uint32_t symbol, uint32_t value)
{
    const struct range *range = &ranges_of(alphabet)[symbol];
    put_symbol(w, e, alphabet, symbol);
    if (range->bits)
        put(w, (value - range->base) >> range->shift, range->bits);
}

static void put_all(struct writer *w, const struct encoder *e)
{
    const uint8_t *literal = e->page;
    for (uint32_t i = 0; i < e->count; i++) {
        const struct sequence *sequence = &e->sequence[i];
        put_number(w, e, RUN, symbol_of(run_range, sequence->literals), sequence->literals);
        for (uint32_t j = 0; j < sequence->literals; j++, literal++) {
            put_symbol(w, e, UPPER, *literal >> 4);
            put_symbol(w, e, lower_of(*literal >> 4), *literal & 15);
        }
        if (sequence->length == 0)
            break;
        put_number(w, e, DISTANCE, sequence->symbol, sequence->distance);
        put_number(w, e, LENGTH, symbol_of(length_range, sequence->length), sequence->length);
        literal += sequence->length;
    }
}

static uint32_t dense_compress(void *work, const uint8_t *page, uint8_t *out, uint32_t capacity)
{
    struct encoder *e = work;
    struct writer w = {out, 0, 0};
    start(e, page);
    find_sequences(e);
    count_symbols(e);
    for (uint32_t a = 0; a < ALPHABETS; a++)
        make_code(e->frequency[a], &e->code[a]);
    if ((size_in_bits(e) + 7) / 8 > capacity)
        return 0;
    for (uint32_t a = 0; a < ALPHABETS; a++)
        for (uint32_t i = 0; i < SYMBOLS; i++)
            put(&w, e->code[a].bits[i], 3);
    put_all(&w, e);
    if (w.filled)
        put(&w, 0, 8 - w.filled);
    return (uint32_t)(w.out - out);
}

/* ---- decompression ---- */

struct reader {
    const uint8_t *in, *end;
    neomm__word_t word; /* the next bits, lowest first; 0 behind those that are there */
    uint32_t filled;    /* how many of them count */
    uint32_t beyond;    /* bytes of zeros that were read behind the end */
    uint8_t table[ALPHABETS][1u << CODE_BITS]; /* symbol << 3 | bits of its code */
};

/* At least 24 bits. What a word has above those that count it gets once more. */
static inline void refill(struct reader *r)
{
    if ((size_t)(r->end - r->in) >= sizeof(r->word)) {
        r->word |= neomm__codec_load_word(r->in) << r->filled;
        r->in += (NEOMM__WORD_BITS - 1 - r->filled) >> 3;
        r->filled |= NEOMM__WORD_BITS - 8;
        return;
    }
    r->word &= ((neomm__word_t)1 << r->filled) - 1;
    for (; r->filled < NEOMM__WORD_BITS - 8; r->filled += 8) {
        if (r->in < r->end)
            r->word |= (neomm__word_t)*r->in++ << r->filled;
        else
            r->beyond++;
    }
}

static inline uint32_t take(struct reader *r, uint32_t bits)
{
    uint32_t value = (uint32_t)r->word & ((1u << bits) - 1);
    r->word >>= bits;
    r->filled -= bits;
    return value;
}

static inline uint32_t get_symbol(struct reader *r, uint32_t alphabet)
{
    uint32_t entry = r->table[alphabet][(uint32_t)r->word & ((1u << CODE_BITS) - 1)];
    (void)take(r, entry & 7);
    return entry >> 3;
}

static inline uint32_t get_number(struct reader *r, const struct range *range, uint32_t symbol)
{
    return range[symbol].base + (take(r, range[symbol].bits) << range[symbol].shift);
}

/* False: the lengths are not those of a code. What no word of the code begins is symbol 0 with no
 * bits, which can only be met where the alphabet is empty or has a single symbol. */
static bool make_table(struct reader *r, uint32_t alphabet)
{
    uint8_t *table = r->table[alphabet];
    struct code code = {{0}, {0}};
    uint32_t sum = 0, kinds = 0;
    for (uint32_t i = 0; i < SYMBOLS; i++) {
        refill(r);
        code.bits[i] = (uint8_t)take(r, 3);
        kinds += code.bits[i] != 0;
        sum += code.bits[i] ? 1u << (CODE_BITS - code.bits[i]) : 0;
    }
    if (sum > 1u << CODE_BITS || (kinds > 1 && sum != 1u << CODE_BITS))
        return false;
    memset(table, 0, 1u << CODE_BITS);
    assign_words(&code);
    for (uint32_t i = 0; i < SYMBOLS; i++)
        for (uint32_t at = code.word[i]; code.bits[i] && at < 1u << CODE_BITS;
             at += 1u << code.bits[i])
            table[at] = (uint8_t)(i << 3 | code.bits[i]);
    return true;
}

static inline uint32_t get_literals(struct reader *r, uint8_t *page, uint32_t at)
{
    refill(r);
    uint32_t count = get_number(r, run_range, get_symbol(r, RUN));
    if (count > PAGE - at)
        return PAGE + 1;
    for (uint32_t end = at + count; at < end; at++) {
        refill(r);
        uint32_t upper = get_symbol(r, UPPER);
        page[at] = (uint8_t)(upper << 4 | get_symbol(r, lower_of(upper)));
    }
    return at;
}

static inline uint32_t get_distance(struct reader *r, uint16_t *recent)
{
    refill(r);
    uint32_t symbol = get_symbol(r, DISTANCE);
    uint32_t distance = symbol < RECENT ? recent[symbol] : get_number(r, distance_range, symbol);
    use_distance(recent, distance);
    return distance;
}

static inline void repeat(uint8_t *page, uint32_t at, uint32_t distance, uint32_t length)
{
    uint8_t *to = page + at;
    const uint8_t *from = to - distance;
    if (distance >= 8 && length + 8 <= PAGE - at) {
        for (uint32_t i = 0; i < length; i += 8) {
            uint64_t value;
            __builtin_memcpy(&value, from + i, sizeof(value));
            __builtin_memcpy(to + i, &value, sizeof(value));
        }
        return;
    }
    for (uint32_t i = 0; i < length; i++)
        to[i] = from[i];
}

static bool dense_decompress(const uint8_t *in, uint32_t size, uint8_t *page)
{
    struct reader r;
    uint16_t recent[RECENT] = {8, 16, 1};
    uint32_t at = 0;
    r.in = in;
    r.end = in + size;
    r.word = r.filled = r.beyond = 0;
    for (uint32_t a = 0; a < ALPHABETS; a++)
        if (!make_table(&r, a))
            return false;
    while (r.beyond * 8 <= r.filled) {
        at = get_literals(&r, page, at);
        if (at >= PAGE)
            break;
        uint32_t distance = get_distance(&r, recent);
        refill(&r);
        uint32_t length = get_number(&r, length_range, get_symbol(&r, LENGTH));
        if (distance == 0 || distance > at || length > PAGE - at)
            return false;
        repeat(page, at, distance, length);
        at += length;
        if (at == PAGE)
            break;
    }
    uint32_t left = (uint32_t)(r.end - r.in) * 8 + r.filled;
    return at == PAGE && left >= r.beyond * 8 && left - r.beyond * 8 < 8;
}

const struct neomm__codec neomm__codec_dense = {"dense", sizeof(struct encoder), dense_compress,
                                                dense_decompress};
