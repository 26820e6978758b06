#ifdef __APPLE__
#define SYMBOL(name) _##name
  .section __TEXT,__const
#else
#define SYMBOL(name) name
  .section .rodata, "a"
#endif
  .balign 64
  .globl SYMBOL(narwhal_model_begin)
SYMBOL(narwhal_model_begin):
  .incbin NARWHAL_MODEL_FILE
  .globl SYMBOL(narwhal_model_end)
SYMBOL(narwhal_model_end):
  .byte 0
#ifdef __linux__
  .section .note.GNU-stack, "", %progbits
#endif
