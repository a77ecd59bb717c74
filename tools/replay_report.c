/* What a replay prints: the summary, the JSON object, progress, and the statistics snapshot.
 * SPDX-License-Identifier: MIT */
#include "replay.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long ull;

static uint64_t all_faults(const struct replay_results *results)
{
    return results->faults_zero + results->faults_swap_in;
}

static double per(double n, uint64_t of)
{
    return of != 0 ? n / (double)of : 0;
}

/* Bytes that a name may hold and a JSON string may not. */
static void print_json_string(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static const char *policy_name(const struct replay *replay)
{
    return replay->options.policy;
}

void replay_report_json(const struct replay *replay)
{
    const struct replay_results *r = &replay->results;
    printf("{\"schema\":\"neomm.replay/1\",\"trace\":");
    print_json_string(replay->trace.name);
    printf(",\"policy\":\"%s\",\"ram\":%llu,\"swap\":%llu,\"resident_limit\":", policy_name(replay),
           (ull)replay->options.ram, (ull)replay->options.swap);
    if (replay->options.resident_limit == NEOMM_UNLIMITED)
        printf("null");
    else
        printf("%llu", (ull)replay->options.resident_limit);
    printf(",\"records\":{\"fetch\":%llu,\"load\":%llu,\"store\":%llu,\"modify\":%llu},"
           "\"skipped_lines\":%llu,\"references\":%llu,\"pages\":%llu,",
           (ull)r->records[0], (ull)r->records[1], (ull)r->records[2], (ull)r->records[3],
           (ull)r->skipped_lines, (ull)r->references, (ull)r->pages);
    printf("\"faults\":{\"total\":%llu,\"zero\":%llu,\"swap_in\":%llu,\"other\":%llu},",
           (ull)all_faults(r), (ull)r->faults_zero, (ull)r->faults_swap_in, (ull)r->faults_other);
    printf("\"evictions\":%llu,\"swap_writes\":%llu,\"content_errors\":%llu,"
           "\"tlb_hits\":%llu,\"walks\":%llu,\"tests\":%llu",
           (ull)r->space.evictions, (ull)r->space.swap_writes, (ull)r->content_errors,
           (ull)r->tlb.hits, (ull)r->tlb.walks, (ull)r->tests);
    if (replay->options.readahead != 0)
        printf(",\"readahead\":{\"most\":%u,\"faults\":%llu,\"page_ins\":%llu,\"ahead\":%llu,"
               "\"used\":%llu,\"wasted\":%llu}",
               replay->options.readahead, (ull)r->faults_swap_in,
               (ull)(r->faults_swap_in + r->space.read_ahead), (ull)r->space.read_ahead,
               (ull)r->space.ahead_used, (ull)r->space.ahead_wasted);
    if (r->optimal != 0)
        printf(",\"optimal\":%llu,\"ratio\":%.4f", (ull)r->optimal,
               per((double)all_faults(r), r->optimal));
    printf("}\n");
}

void replay_report_text(const struct replay *replay)
{
    const struct replay_results *r = &replay->results;
    double rate = r->seconds > 0 ? (double)r->references / r->seconds * 1e-6 : 0;
    printf("trace           %s\n", replay->trace.name);
    printf("records         %llu fetches, %llu loads, %llu stores, %llu modifies",
           (ull)r->records[0], (ull)r->records[1], (ull)r->records[2], (ull)r->records[3]);
    printf("; %llu other lines skipped\n", (ull)r->skipped_lines);
    printf("references      %llu on %llu pages, %.1f million a second\n", (ull)r->references,
           (ull)r->pages, rate);
    if (replay->options.resident_limit == NEOMM_UNLIMITED)
        printf("resident limit  none, policy %s\n", policy_name(replay));
    else
        printf("resident limit  %llu pages, policy %s\n", (ull)replay->options.resident_limit >> 12,
               policy_name(replay));
    printf("faults          %llu: %llu first touches, %llu swap-ins (and %llu others)\n",
           (ull)all_faults(r), (ull)r->faults_zero, (ull)r->faults_swap_in, (ull)r->faults_other);
    if (r->optimal != 0)
        printf("optimum         %llu misses; these are %.3f times as many\n", (ull)r->optimal,
               per((double)all_faults(r), r->optimal));
    printf("tests           %llu of accessed bits, %.2f a miss\n", (ull)r->tests,
           per((double)r->tests, all_faults(r)));
    printf("evictions       %llu, of which %llu were written to swap\n", (ull)r->space.evictions,
           (ull)r->space.swap_writes);
    if (replay->options.readahead != 0)
        printf("readahead       %llu pages ahead, %.0f %% useful, %llu page-ins in all\n",
               (ull)r->space.read_ahead,
               100 * per((double)r->space.ahead_used, r->space.read_ahead),
               (ull)(r->faults_swap_in + r->space.read_ahead));
    printf("TLB             %llu hits, %llu walks\n", (ull)r->tlb.hits, (ull)r->tlb.walks);
    printf("content errors  %llu\n", (ull)r->content_errors);
}

/* What reading ahead came to, beside a run without. */
static void print_ahead_json(const struct fast_results *none, const struct fast_results *ahead,
                             uint32_t most)
{
    uint64_t page_ins = ahead->swap_in + ahead->ahead;
    printf(",\"readahead\":{\"most\":%u,\"faults\":%llu,\"page_ins\":%llu,\"ahead\":%llu,"
           "\"used\":%llu,\"wasted\":%llu,\"faults_ratio\":%.4f,\"page_ins_ratio\":%.4f}",
           most, (ull)ahead->swap_in, (ull)page_ins, (ull)ahead->ahead, (ull)ahead->ahead_used,
           (ull)ahead->ahead_wasted, per((double)ahead->swap_in, none->swap_in),
           per((double)page_ins, none->swap_in));
}

static void print_ahead_text(const struct fast_results *none, const struct fast_results *ahead)
{
    uint64_t page_ins = ahead->swap_in + ahead->ahead;
    printf("readahead       %llu major faults (%.2f of %llu), %llu page-ins (%.2f)",
           (ull)ahead->swap_in, per((double)ahead->swap_in, none->swap_in), (ull)none->swap_in,
           (ull)page_ins, per((double)page_ins, none->swap_in));
    printf("; %llu pages ahead, %.0f %% useful\n", (ull)ahead->ahead,
           100 * per((double)ahead->ahead_used, ahead->ahead));
}

void replay_report_fast(const struct replay *replay, const struct fast_results *results,
                        const struct fast_results *ahead, uint32_t frames)
{
    const struct page_string *string = &replay->string;
    double ratio = per((double)results->misses, replay->results.optimal);
    double tests = per((double)results->tests, results->misses);
    if (replay->options.json) {
        printf("{\"schema\":\"neomm.replay-fast/1\",\"trace\":");
        print_json_string(replay->trace.name);
        printf(",\"policy\":\"%s\",\"frames\":%u,\"pages\":%u,\"references\":%llu,\"misses\":%llu,"
               "\"optimal\":%llu,\"ratio\":%.4f,\"tests\":%llu,\"evictions\":%llu,\"swap_writes\":"
               "%llu,\"swap_in\":%llu",
               policy_name(replay), frames, string->pages, (ull)string->references,
               (ull)results->misses, (ull)replay->results.optimal, ratio, (ull)results->tests,
               (ull)results->evictions, (ull)results->writes, (ull)results->swap_in);
        if (ahead)
            print_ahead_json(results, ahead, replay->options.readahead);
        printf("}\n");
        return;
    }
    printf("trace           %s: %llu references on %u pages\n", replay->trace.name,
           (ull)string->references, string->pages);
    printf("frames          %u, policy %s\n", frames, policy_name(replay));
    printf("misses          %llu; OPT %llu, %.3f times as many\n", (ull)results->misses,
           (ull)replay->results.optimal, ratio);
    printf("tests           %llu of accessed bits, %.2f a miss\n", (ull)results->tests, tests);
    printf("evictions       %llu, of which %llu were written to swap\n", (ull)results->evictions,
           (ull)results->writes);
    if (ahead)
        print_ahead_text(results, ahead);
}

void replay_progress(const struct replay *replay, double seconds, bool last)
{
    const struct replay_results *r = &replay->results;
    fprintf(stderr, "\r%llu million references, %.1f million a second, %llu faults%s",
            (ull)(r->references / 1000000),
            seconds > 0 ? (double)r->references / seconds * 1e-6 : 0, (ull)all_faults(r),
            last ? "\n" : "");
}

bool replay_write_snapshot(struct replay *replay, const char *path)
{
    struct neomm_snapshot snapshot;
    char partial[4096];
    neomm_snapshot_take(replay->system.root, &snapshot);
    if (snprintf(partial, sizeof(partial), "%s.part", path) >= (int)sizeof(partial))
        return false;
    FILE *file = fopen(partial, "wb");
    if (!file)
        return false;
    bool written = fwrite(&snapshot, sizeof(snapshot), 1, file) == 1;
    written = fclose(file) == 0 && written;
    if (!written || rename(partial, path) != 0) {
        (void)unlink(partial);
        return false;
    }
    return true;
}
