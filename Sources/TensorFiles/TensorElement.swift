/// A Swift type that one ``TensorElementType`` has the memory layout of.
///
/// There is none for bfloat16, which Swift does not have, nor for `bool`, whose bytes may be other than 0
/// and 1 in a file and must not become a `Bool` unseen.
public protocol TensorElement: BitwiseCopyable, Sendable {
  /// The element type with the layout of `Self`.
  static var tensorElementType: TensorElementType { get }
}

extension Float16: TensorElement {
  /// ``TensorElementType/float16``.
  public static var tensorElementType: TensorElementType { .float16 }
}

extension Float: TensorElement {
  /// ``TensorElementType/float32``.
  public static var tensorElementType: TensorElementType { .float32 }
}

extension Double: TensorElement {
  /// ``TensorElementType/float64``.
  public static var tensorElementType: TensorElementType { .float64 }
}

extension Int8: TensorElement {
  /// ``TensorElementType/int8``.
  public static var tensorElementType: TensorElementType { .int8 }
}

extension Int16: TensorElement {
  /// ``TensorElementType/int16``.
  public static var tensorElementType: TensorElementType { .int16 }
}

extension Int32: TensorElement {
  /// ``TensorElementType/int32``.
  public static var tensorElementType: TensorElementType { .int32 }
}

extension Int64: TensorElement {
  /// ``TensorElementType/int64``.
  public static var tensorElementType: TensorElementType { .int64 }
}

extension UInt8: TensorElement {
  /// ``TensorElementType/uint8``.
  public static var tensorElementType: TensorElementType { .uint8 }
}

extension UInt16: TensorElement {
  /// ``TensorElementType/uint16``.
  public static var tensorElementType: TensorElementType { .uint16 }
}

extension UInt32: TensorElement {
  /// ``TensorElementType/uint32``.
  public static var tensorElementType: TensorElementType { .uint32 }
}

extension UInt64: TensorElement {
  /// ``TensorElementType/uint64``.
  public static var tensorElementType: TensorElementType { .uint64 }
}
