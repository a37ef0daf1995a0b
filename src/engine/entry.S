/*
 * Where a start begins: asks the kernel to read, in one go and without waiting, what a start needs of the file. The end of the
 * heap is not among it (arena.h). Left to itself the kernel reads around the first page of the data that is touched, as far as
 * the disk's read_ahead_kb says: libc does that before main(), so it is done here.
 */
        .globl entry
        .text
entry:
#ifdef __x86_64__
        mov     $__executable_start, %edi
        mov     $arena_read_end, %esi
        sub     %edi, %esi
        mov     $3, %edx                /* MADV_WILLNEED */
        mov     $28, %eax               /* madvise */
        syscall
        jmp     _start
#else
        ldr     x0, =__executable_start
        ldr     x1, =arena_read_end
        sub     x1, x1, x0
        mov     x2, #3
        mov     x8, #233
        svc     #0
        b       _start
#endif
        .section .note.GNU-stack, "", %progbits
