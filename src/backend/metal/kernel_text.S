#ifdef __APPLE__
#define SYMBOL(name) _##name
  .section __TEXT,__const
#else
#define SYMBOL(name) name
  .section .rodata, "a"
#endif
  .globl SYMBOL(narwhal_metal_text_begin)
SYMBOL(narwhal_metal_text_begin):
  .incbin NARWHAL_METAL_TEXT
  .globl SYMBOL(narwhal_metal_text_end)
SYMBOL(narwhal_metal_text_end):
  .byte 0
#ifdef __linux__
  .section .note.GNU-stack, "", %progbits
#endif
