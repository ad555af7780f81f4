"""Adapters and classifiers of other programs, in and out: Hugging Face, peft, AdapterHub, the AdaKron authors' code.

A format is a module with `read(folder, base)` and `write(card, leaves)`. Formats share `tensor_table`, the places of
leaves in another program's file; `fields`, which reads and writes descriptions and drops nothing that it does not
understand; and `heads`, the classification head. `peft/form.py` shows the way from peft's file to our tree and back.
"""
