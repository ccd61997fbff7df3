import BatchLossFormulas
import BatchLossInstructions
import BatchLossKernelInterface

// Sums of rows by weights, which gradients of embeddings are made of. Weights are read where a loss has left them, row by row
// or column by column, and each is multiplied with some registers full of the other factor; BLAS copies both factors first.

func productKernels<V: KernelVector>(of vector: V.Type) -> ProductKernels<V.Lane> {
  ProductKernels(
    pack: { packPanels($0, $1, $2, $3, $4, as: vector) }, add: { addPanelProduct($0, as: vector) },
    depthAtOnce: depthAtOnce)
}

/// A row of a panel, known when the loop is compiled.
private protocol PanelRow<V> {
  associatedtype V: KernelVector
  associatedtype Vectors
  static var vectors: Int { get }

  static var zero: Vectors { get }
  /// The first `columns` scalars, or all where a row is always whole.
  static func load(_ source: UnsafePointer<V.Lane>, _ columns: Int) -> Vectors
  static func store(_ row: Vectors, _ destination: UnsafeMutablePointer<V.Lane>, _ columns: Int)
  static func add(_ row: Vectors, to destination: UnsafeMutablePointer<V.Lane>, _ columns: Int)
  /// sum += factor·row.
  static func multiplyAdd(_ sum: inout Vectors, _ factor: V.Lane, _ row: Vectors)
}

extension PanelRow {
  @inline(__always)
  static var width: Int { vectors * V.laneCount }
}

private enum FourVectors<V: KernelVector>: PanelRow {
  typealias Vectors = (V, V, V, V)

  @inline(__always)
  static var vectors: Int { 4 }

  @inline(__always)
  static var zero: Vectors { (V(lane: 0), V(lane: 0), V(lane: 0), V(lane: 0)) }

  @inline(__always)
  static func load(_ source: UnsafePointer<V.Lane>, _: Int) -> Vectors {
    let lanes = V.laneCount
    return (V.load(source), V.load(source + lanes), V.load(source + 2 * lanes), V.load(source + 3 * lanes))
  }

  @inline(__always)
  static func store(_ row: Vectors, _ destination: UnsafeMutablePointer<V.Lane>, _: Int) {
    let lanes = V.laneCount
    row.0.store(destination)
    row.1.store(destination + lanes)
    row.2.store(destination + 2 * lanes)
    row.3.store(destination + 3 * lanes)
  }

  @inline(__always)
  static func add(_ row: Vectors, to destination: UnsafeMutablePointer<V.Lane>, _ columns: Int) {
    let old = load(UnsafePointer(destination), columns)
    store((old.0 + row.0, old.1 + row.1, old.2 + row.2, old.3 + row.3), destination, columns)
  }

  @inline(__always)
  static func multiplyAdd(_ sum: inout Vectors, _ factor: V.Lane, _ row: Vectors) {
    let factor = V(lane: factor)
    sum.0 = V.multiplyAdd(factor, row.0, sum.0)
    sum.1 = V.multiplyAdd(factor, row.1, sum.1)
    sum.2 = V.multiplyAdd(factor, row.2, sum.2)
    sum.3 = V.multiplyAdd(factor, row.3, sum.3)
  }
}

private enum OneVector<V: KernelVector>: PanelRow {
  typealias Vectors = V

  @inline(__always)
  static var vectors: Int { 1 }

  @inline(__always)
  static var zero: V { V(lane: 0) }

  @inline(__always)
  static func load(_ source: UnsafePointer<V.Lane>, _ columns: Int) -> V { loadLanes(source, columns, as: V.self) }

  @inline(__always)
  static func store(_ row: V, _ destination: UnsafeMutablePointer<V.Lane>, _ columns: Int) {
    storeLanes(row, destination, columns)
  }

  @inline(__always)
  static func add(_ row: V, to destination: UnsafeMutablePointer<V.Lane>, _ columns: Int) {
    storeLanes(loadLanes(UnsafePointer(destination), columns, as: V.self) + row, destination, columns)
  }

  @inline(__always)
  static func multiplyAdd(_ sum: inout V, _ factor: V.Lane, _ row: V) {
    sum = V.multiplyAdd(V(lane: factor), row, sum)
  }
}

// Six rows of sums, a row of a panel and a weight fill the registers: 32 of 64 bytes, or 16 of 32 for panels of one vector.
#if BATCHLOSS_X86_V4
  private typealias WideRow = FourVectors
#else
  private typealias WideRow = OneVector
#endif

/// Rows that are summed over at a time: a panel of them is 32 KiB at most, which a first-level cache or the beginning of a
/// second one holds, and sums of sums round less.
@inline(__always)
private var depthAtOnce: Int { 128 }

@inline(never)
private func packPanels<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ stride: Int, _ rows: Int, _ columns: Int,
  _ panels: UnsafeMutablePointer<V.Lane>, as: V.Type
) {
  @inline(__always)
  func pack<Row: PanelRow>(_ column: Int, _ row: Row.Type) where Row.V == V {
    let (source, panel) = (source + column, panels + column * rows)
    let width = min(Row.width, columns - column)
    for index in 0..<rows {
      Row.store(Row.load(source + index * stride, width), panel + index * Row.width, Row.width)
    }
  }
  var column = 0
  while column + WideRow<V>.width <= columns {
    pack(column, WideRow<V>.self)
    column += WideRow<V>.width
  }
  while column < columns {
    pack(column, OneVector<V>.self)
    column += V.laneCount
  }
}

@inline(never)
private func addPanelProduct<V: KernelVector>(_ product: PanelProduct<V.Lane>, as: V.Type) {
  var ahead = readAhead(product, WideRow<V>.self)
  var column = 0
  while column + WideRow<V>.width <= product.columns {
    addPanel(product, column, &ahead, WideRow<V>.self)
    column += WideRow<V>.width
  }
  while column < product.columns {
    addPanel(product, column, &ahead, OneVector<V>.self)
    column += V.laneCount
  }
}

/// The cache lines to ask for, and how many of them with each six rows of a part of the depth.
private typealias AskedLines = (next: UnsafeRawPointer, end: UnsafeRawPointer, lines: Int)

@inline(__always)
private func readAhead<Row: PanelRow>(_ product: PanelProduct<Row.V.Lane>, _: Row.Type) -> AskedLines {
  guard let memory = product.ahead, let start = memory.baseAddress else {
    let nothing = UnsafeRawPointer(product.left)
    return (nothing, nothing, 0)
  }
  let parts =
    max(1, product.columns / Row.width) * ((product.depth + depthAtOnce - 1) / depthAtOnce)
    * max(1, product.rows / 6)
  return (start, start + memory.count, memory.count / 64 / max(1, parts) + 1)
}

/// What the columns of one panel receive.
@inline(__always)
private func addPanel<Row: PanelRow>(
  _ product: PanelProduct<Row.V.Lane>, _ column: Int, _ ahead: inout AskedLines, _: Row.Type
) {
  let panel = product.panels + (column * product.panelRows + product.firstRow * Row.width)
  let (result, stride) = (product.result + column, product.resultStride)
  let (leftStride, rows) = (product.leftStride, product.rows)
  let columns = min(Row.width, product.columns - column)
  if product.depth == 0, !product.adds {
    for row in 0..<rows { Row.store(Row.zero, result + row * stride, columns) }
  }
  var start = 0
  while start < product.depth {
    let (panel, depth) = (panel + start * Row.width, min(depthAtOnce, product.depth - start))
    let adds = product.adds || start > 0
    if product.isTransposed {
      addStrips(
        product.left + start * leftStride, rowStep: 1, depthStep: leftStride, panel, depth, result, stride, rows,
        columns, adds, &ahead, Row.self)
    } else {
      addStrips(
        product.left + start, rowStep: leftStride, depthStep: 1, panel, depth, result, stride, rows, columns,
        adds, &ahead, Row.self)
    }
    start += depthAtOnce
  }
}

@inline(__always)
private func addStrips<Row: PanelRow>(
  _ left: UnsafePointer<Row.V.Lane>, rowStep: Int, depthStep: Int, _ panel: UnsafePointer<Row.V.Lane>, _ depth: Int,
  _ result: UnsafeMutablePointer<Row.V.Lane>, _ stride: Int, _ rows: Int, _ columns: Int,
  _ adds: Bool, _ ahead: inout AskedLines, _: Row.Type
) {
  let end = panel + depth * Row.width
  @inline(__always)
  func put(_ sum: Row.Vectors, _ output: UnsafeMutablePointer<Row.V.Lane>) {
    if adds { Row.add(sum, to: output, columns) } else { Row.store(sum, output, columns) }
  }
  var row = 0
  #if BATCHLOSS_FUSED
    while row + 6 <= rows {
      let output = result + row * stride
      let asked = min(ahead.next + ahead.lines * 64, ahead.end)
      while ahead.next < asked {
        batchloss_prefetch(ahead.next)
        ahead.next += 64
      }
      var (sum0, sum1, sum2) = (Row.zero, Row.zero, Row.zero)
      var (sum3, sum4, sum5) = (Row.zero, Row.zero, Row.zero)
      var (left, panel) = (left + row * rowStep, panel)
      while panel < end {
        let other = Row.load(panel, Row.width)
        Row.multiplyAdd(&sum0, left[0], other)
        Row.multiplyAdd(&sum1, left[rowStep], other)
        Row.multiplyAdd(&sum2, left[2 * rowStep], other)
        Row.multiplyAdd(&sum3, left[3 * rowStep], other)
        Row.multiplyAdd(&sum4, left[4 * rowStep], other)
        Row.multiplyAdd(&sum5, left[5 * rowStep], other)
        left += depthStep
        panel += Row.width
      }
      put(sum0, output)
      put(sum1, output + stride)
      put(sum2, output + 2 * stride)
      put(sum3, output + 3 * stride)
      put(sum4, output + 4 * stride)
      put(sum5, output + 5 * stride)
      row += 6
    }
  #endif
  while row + 2 <= rows {
    let output = result + row * stride
    var (sum0, sum1) = (Row.zero, Row.zero)
    var (left, panel) = (left + row * rowStep, panel)
    while panel < end {
      let other = Row.load(panel, Row.width)
      Row.multiplyAdd(&sum0, left[0], other)
      Row.multiplyAdd(&sum1, left[rowStep], other)
      left += depthStep
      panel += Row.width
    }
    put(sum0, output)
    put(sum1, output + stride)
    row += 2
  }
  if row < rows {
    let output = result + row * stride
    var sum = Row.zero
    var (left, panel) = (left + row * rowStep, panel)
    while panel < end {
      Row.multiplyAdd(&sum, left[0], Row.load(panel, Row.width))
      left += depthStep
      panel += Row.width
    }
    put(sum, output)
  }
}
