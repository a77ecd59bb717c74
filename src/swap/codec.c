/* Codecs by number, for the pool and for programs.
 * SPDX-License-Identifier: MIT */
#include "swap/codec.h"

#include <neomm/swap.h>

static const struct neomm__codec *const codecs[NEOMM_COMPRESSIONS] = {
    [NEOMM_COMPRESSION_LZ4] = &neomm__codec_lz4,
    [NEOMM_COMPRESSION_DENSE] = &neomm__codec_dense,
};

const struct neomm__codec *neomm__codec_at(uint32_t number)
{
    return number < NEOMM_COMPRESSIONS ? codecs[number] : NULL;
}

size_t neomm_codec_work_size(uint32_t codec)
{
    const struct neomm__codec *found = neomm__codec_at(codec);
    return found ? found->work : 0;
}

uint32_t neomm_codec_compress(uint32_t codec, void *work, const void *page, void *out,
                              uint32_t capacity)
{
    const struct neomm__codec *found = neomm__codec_at(codec);
    return found ? found->compress(work, page, out, capacity) : 0;
}

neomm_status neomm_codec_decompress(uint32_t codec, const void *in, uint32_t size, void *page)
{
    const struct neomm__codec *found = neomm__codec_at(codec);
    if (!found)
        return NEOMM_E_INVALID;
    return found->decompress(in, size, page) ? NEOMM_OK : NEOMM_E_CORRUPT;
}
