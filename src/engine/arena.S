/*
 * The region of arena.h. In the first link it is empty and as large as a rehearsal needs, in the second it is the snapshot and what a run may need.
 */
#ifdef SNAPSHOT
        .section snapshot, "aw", %progbits
        .balign 4096
.Lsnapshot:
        .incbin SNAPSHOT
        .globl arena_read_end
        .set arena_read_end, .Lsnapshot + READ

        .section spare, "aw", %nobits
        .skip 1 << 20
#else
        .section snapshot, "aw", %nobits
        .balign 4096
        .globl arena_read_end
arena_read_end:
        .skip 256 << 20
#endif
        .section .note.GNU-stack, "", %progbits
