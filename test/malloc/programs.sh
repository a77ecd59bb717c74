#!/bin/sh
# A real program with and without libneomm-malloc.so: programs.sh LIBRARY FOLDER PROGRAM [OPTIONS]
# Prints nothing if both runs write the same and the report at exit shows that the second was ours.
# SPDX-License-Identifier: MIT
set -u
library=$1
folder=$2/$3
program=$3
options=${4:+,$4}
fail() {
    echo "$program: $*"
    exit 1
}

rm -rf "$folder"
mkdir -p "$folder/in" && cd "$folder" || exit 1

# ---- what the programs work on ----

generate_c() { # FUNCTIONS
    awk -v n="$1" 'BEGIN {
        print "struct node { int key; double weight; struct node *next; char name[24]; };"
        for (i = 0; i < n; i++) {
            printf "static double f%d(struct node *list, int x)\n{\n", i
            printf "    double sum = %d.5;\n    for (struct node *n = list; n; n = n->next) {\n", i
            printf "        switch (n->key %% %d) {\n", i % 7 + 2
            for (j = 0; j <= i % 7; j++)
                printf "        case %d: sum += n->weight * %d + x; break;\n", j, i + j
            print "        default: sum -= n->name[x & 15];\n        }\n    }\n    return sum;\n}"
        }
        print "double all(struct node *list)\n{\n    double sum = 0;"
        for (i = 0; i < n; i++)
            printf "    sum += f%d(list, %d);\n", i, i
        print "    return sum;\n}"
    }'
}

generate_text() { # LINES
    awk -v n="$1" 'BEGIN {
        seed = 7
        for (i = 0; i < n; i++) {
            seed = (seed * 16807) % 2147483647
            printf "%d line %d of the text %x\n", seed % 1000, i, seed
        }
    }'
}

prepare() {
    case $program in
    gcc) generate_c 100 >in/large.c ;;
    g++) cat >in/containers.cc <<'CODE' ;;
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>
struct alignas(256) Wide {
    char c[256];
};
static unsigned long fill(unsigned seed)
{
    std::map<std::string, std::vector<int>> map;
    std::unordered_map<int, std::unique_ptr<Wide>> wide;
    for (unsigned i = 0; i < 20000; i++) {
        map[std::to_string(i * seed % 997) + std::string(i % 50, 'x')].push_back((int)i);
        wide[(int)(i * seed % 701)] = std::make_unique<Wide>();
    }
    unsigned long sum = 0;
    for (auto &entry : map)
        sum += entry.first.size() * entry.second.size();
    for (auto &entry : wide)
        sum += (std::uintptr_t)entry.second.get() % 256 == 0;
    return sum;
}
int main()
{
    std::vector<std::thread> threads;
    unsigned long sum[4];
    for (unsigned i = 0; i < 4; i++)
        threads.emplace_back([&sum, i] { sum[i] = fill(i + 3); });
    for (auto &thread : threads)
        thread.join();
    for (unsigned long part : sum)
        std::printf("%lu\n", part);
    Wide *many = new Wide[1000];
    delete[] many;
}
CODE
    xz) generate_text 150000 >in/text ;;
    esac
    [ "$program" != g++ ] || prepare_operators
}

# A program that defines one new and one delete, whose blocks nobody else can free; and what C++
# says of new that fails.
prepare_operators() {
    cat >in/operators.cc <<'CODE'
#include <cstdio>
#include <cstdlib>
#include <new>
static long live;
void *operator new(std::size_t size)
{
    live++;
    if (char *block = (char *)std::malloc(size + 32))
        return block + 32;
    throw std::bad_alloc();
}
void operator delete(void *pointer) noexcept
{
    live -= pointer != nullptr;
    if (pointer)
        std::free((char *)pointer - 32);
}
struct Item {
    ~Item() { value = 0; }
    int value;
};
struct alignas(64) Wide {
    char c[64];
};
int main()
{
    delete new Item;
    delete[] new Item[7];
    delete new (std::nothrow) Item;
    delete[] new (std::nothrow) Item[3];
    operator delete(operator new(100), std::size_t(100));
    operator delete[](operator new[](100), std::size_t(100));
    std::printf("%ld\n", live);
    delete new Wide;
    delete[] new (std::nothrow) Wide[3];
    static int handled;
    std::set_new_handler([] {
        if (++handled == 3)
            std::set_new_handler(nullptr);
    });
    try {
        (void)operator new(std::size_t(-1) / 2, std::align_val_t(64));
    } catch (const std::bad_alloc &) {
        std::printf("no memory after %d\n", handled);
    }
    std::printf("%d\n", operator new(std::size_t(-1) / 2, std::align_val_t(64), std::nothrow) == nullptr);
}
CODE
    g++ -std=c++17 -O1 -pthread in/containers.cc -o in/containers &&
        g++ -std=c++17 -O0 -w in/operators.cc -o in/operators
}

# ---- the runs, each in a folder of its own; what is left there is compared ----

run_python3() {
    python3 - <<'CODE'
import json, os, re, threading, zlib
data = {str(i): [j * i for j in range(i % 50)] for i in range(20000)}
text = json.dumps(data, sort_keys=True)
assert json.loads(text) == data
print(len(text), zlib.crc32(text.encode()), len(re.findall(r"1[02]+", text)))
results = [0] * 8
def work(n):
    pieces = []
    for i in range(3000):
        pieces.append(("%d" % (i * n)) * (i % 90))
        if i % 7 == 0:
            pieces = pieces[len(pieces) // 2:]
    results[n] = sum(map(len, pieces))
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for t in threads: t.start()
pids = []
for n in range(5):
    pid = os.fork()
    if pid == 0:
        b = [bytearray(i) for i in range(3000)]
        os._exit(0 if sum(map(len, b)) == 2999 * 1500 else 1)
    pids.append(pid)
print([os.waitpid(pid, 0)[1] for pid in pids])
for t in threads: t.join()
print(results)
big = bytearray()
for i in range(2000): big += bytes(10007)
print(len(big), zlib.crc32(bytes(big)))
CODE
}

run_perl() {
    perl -e '
        my (%h, @a);
        for my $i (1 .. 60000) { $h{"key$i"} = "value " x ($i % 30); push @a, [$i, $h{"key$i"}]; }
        my $n = 0;
        for (sort keys %h) { $n += length $h{$_} if /7.*3/; }
        my $s = join ",", map { $_->[0] } grep { $_->[0] % 3 } @a;
        $s =~ s/(\d)(\d)/$2$1/g;
        print "$n ", length $s, " ", unpack("%32C*", $s), "\n";'
}

run_sqlite3() {
    sqlite3 base.db <<'CODE'
create table t(id integer primary key, a text, b real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 40000)
insert into t select i, printf('name %d %d', i * 7919 % 10007, i), i * 0.5 from n;
create index by_a on t(a);
select count(*), sum(b), min(a), max(a) from t where a like 'name 1%';
select a, group_concat(id) from t where id % 4001 = 0 group by a order by a;
delete from t where id % 3 = 0;
vacuum;
pragma integrity_check;
select count(*) from t;
CODE
}

run_git() {
    export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b.invalid GIT_COMMITTER_NAME=a HOME=$PWD \
        GIT_COMMITTER_EMAIL=a@b.invalid GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' \
        GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' GIT_CONFIG_NOSYSTEM=1
    git init -q -b main repository && cd repository || return 1
    for commit in 1 2 3; do
        for file in 1 2 3 4 5 6 7 8; do
            awk -v c=$commit -v f=$file \
                'BEGIN { for (i = 0; i < 3000; i++) print i * f % 97, c * (i % 11 == f) }' >file$file
        done
        git add . && git commit -q -m "commit $commit"
    done
    git log --stat -p | cksum
    git repack -q -a -d --window=20 --threads=2 && git fsck 2>/dev/null && git rev-parse HEAD
    cd .. && rm -rf repository
}

run() {
    case $program in
    gcc) gcc -O2 -S ../in/large.c -o large.s ;;
    g++) ../in/containers && ../in/operators ;;
    python3) run_python3 ;;
    perl) run_perl ;;
    sqlite3) run_sqlite3 ;;
    git) run_git ;;
    xz) xz -T 4 -1 --block-size=1MiB -c ../in/text >text.xz && xz -T 4 -dc text.xz | cksum ;;
    *) fail "no such program" ;;
    esac
}

# ---- both ----

prepare || fail "nothing to work on"
mkdir without with
(cd without && run >output 2>&1)
status=$?
[ $status -eq 0 ] || fail "does not even run without the library: $status"
(
    cd with || exit 1
    export NEOMM_MALLOC_OPTIONS="stats=$folder/report$options"
    LD_PRELOAD=$library
    export LD_PRELOAD
    run >output 2>&1
)
status=$?
[ $status -eq 0 ] || fail "status $status: $(tail -n 5 with/output)"
diff -r without with >diff.txt || fail "the output differs"

# The programs with threads call it seldom.
highest() { # KEY
    sed -n "s/.* $1=\([0-9]*\).*/\1/p" report | sort -n | tail -n 1
}
case $program in
xz) key=threads_most least=4 ;;
*) key=allocations least=5000 ;;
esac
most=$(highest $key)
[ "${most:-0}" -ge $least ] || fail "the library was not in use: $key=${most:-none}"
grep -v ' bad_frees=0 ' report && fail "misuse"
[ "$program" = g++ ] || ! grep -v ' failures=0 ' report || fail "failures"
