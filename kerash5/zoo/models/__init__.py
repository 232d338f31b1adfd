"""The models of the zoo, one family per module: functions that add layers to an input.

Each `build` returns an uncompiled functional `keras.Model` made only of Keras' own layers, so that
a saved model loads in Keras' safe mode and computes the same on every backend. `kerash5.zoo` names
and compiles them.
"""
