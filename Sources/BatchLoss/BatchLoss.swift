// The element-wise losses and the types they are written in are part of the public API.
@_exported import BatchLossFormulas
