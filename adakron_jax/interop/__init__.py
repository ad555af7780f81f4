"""Adapters and classifiers of other programs, in and out: Hugging Face, peft, AdapterHub, the AdaKron authors' code.

A format is a module with `read(folder, base)` and `write(card, leaves)`. What the formats share is where a leaf lies in
another program's file (`tensor_table`), how a description is read, without dropping what is not understood, and
written (`fields`), and the classification head (`heads`). From a file of peft's to our tree and back: `peft/form.py`.
"""
