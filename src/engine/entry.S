/*
 * Where a start begins: if the last of what a start needs of the file is not in memory, asks the kernel to read all of it, in
 * one go and without waiting. The end of the heap is not among it (arena.h). Left to itself the kernel reads around the first
 * page of the data that is touched, as far as the disk's read_ahead_kb says: libc does that before main(), so it is done here.
 */
        .globl entry
        .text
entry:
#ifdef __x86_64__
        mov     $arena_read_end - 1, %edi
        and     $-0x10000, %edi         /* a multiple of every size of a page */
        mov     $1, %esi
        lea     -8(%rsp), %rdx
        mov     $27, %eax               /* mincore */
        syscall
        testb   $1, -8(%rsp)
        jnz     _start
        mov     $__executable_start, %edi
        mov     $arena_read_end, %esi
        sub     %edi, %esi
        mov     $3, %edx                /* MADV_WILLNEED */
        mov     $28, %eax               /* madvise */
        syscall
        jmp     _start
#else
        ldr     x0, =arena_read_end - 1
        and     x0, x0, #-0x10000
        mov     x1, #1
        sub     x2, sp, #16
        mov     x8, #232
        svc     #0
        ldrb    w0, [sp, #-16]
        tbnz    w0, #0, 1f
        ldr     x0, =__executable_start
        ldr     x1, =arena_read_end
        sub     x1, x1, x0
        mov     x2, #3
        mov     x8, #233
        svc     #0
1:      b       _start
#endif
        .section .note.GNU-stack, "", %progbits
