// The memory of spans, for the time of one call.

func pointer<T>(to span: borrowing Span<T>) -> UnsafeBufferPointer<T> {
  unsafe span.withUnsafeBufferPointer { unsafe $0 }
}

func pointerIfPresent<T>(to span: borrowing Span<T>?) -> UnsafeBufferPointer<T>? {
  switch span {
  case .some(let span): pointer(to: span)
  case .none: nil
  }
}

func memory<T>(of span: inout MutableSpan<T>?) -> UnsafeMutableBufferPointer<T>? {
  guard var some = span.take() else { return nil }
  return unsafe some.withUnsafeMutableBufferPointer { unsafe $0 }
}
