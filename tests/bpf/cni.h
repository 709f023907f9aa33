/* What the test objects share: the kernel's own numbers, and maps as libbpf declares them. */
typedef unsigned int u32;
typedef unsigned long long u64;

struct __sk_buff {
	u32 len, pkt_type, mark;
};

struct bpf_sock;

#define SEC(name) __attribute__((section(name), used))
#define inline inline __attribute__((always_inline))
#define __uint(name, number) int(*name)[number]
#define __type(name, kind) kind *name

enum { HASH = 1, ARRAY = 2, PROG_ARRAY = 3 };
enum { PIN_BY_NAME = 1, CILIUM_PIN_REPLACE = 16 };

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*tail_call)(void *context, void *programs, u32 index) = (void *)12;
static long (*set_retval)(const void *value) = (void *)187;

char LICENSE[] SEC("license") = "Dual BSD/GPL";
