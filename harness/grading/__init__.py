"""Graders: they turn one answer into a verdict, with the evidence it rests on."""
