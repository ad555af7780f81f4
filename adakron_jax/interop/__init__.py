"""Adapters and classifiers of other programs, in and out: Hugging Face, peft, AdapterHub, the AdaKron authors' code.

A format is one file with `read(folder, base)` and `write(card, leaves)`. What the formats share is how a leaf lies in
somebody else's file (`slots`), how a description is read without dropping what is not understood (`fields`), and the
classification head (`heads`).
"""
