"""Where a memory looks, trained before any lesson. Ends at memory_layer.start.safetensors."""
