/* The verifier, which must prove every path, gives up after a million instructions: 28 slots are
 * too many for every kernel, 18 load everywhere.
 */
#include "cni.h"
#include "branches.h"

#ifndef SLOTS
#define SLOTS 28
#endif

SEC("tc/entry") int cil_too_large(struct __sk_buff *skb)
{
	BRANCHES(skb, SLOTS);
}
