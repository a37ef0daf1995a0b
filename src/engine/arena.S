/*
 * The region of arena.h. In the first link it is empty and as large as a rehearsal needs, in the second it is the snapshot and what a run may need.
 */
#ifdef SNAPSHOT
        .section snapshot, "aw", %progbits
        .balign 4096
        .incbin SNAPSHOT

        .section spare, "aw", %nobits
        .skip 1 << 20
#else
        .section snapshot, "aw", %nobits
        .balign 4096
        .skip 256 << 20
#endif
        .section .note.GNU-stack, "", %progbits
