import ArgumentParser
import BatchLossCatalog
import Foundation

/// The shape of a workload: the dimensions it has, by name.
struct Dimensions: CustomStringConvertible {
  enum Name: String, CaseIterable {
    case rows, columns, depth, classes, time, batch, labels
  }

  var values: [Name: Int]

  init(_ values: [Name: Int]) { self.values = values }

  subscript(name: Name) -> Int { values[name] ?? 1 }

  /// For example "8192×1000"; named where there are others than rows and columns.
  var description: String {
    let given = Name.allCases.compactMap { name in values[name].map { (name, $0) } }
    if given.allSatisfy({ $0.0 == .rows || $0.0 == .columns }) {
      return given.map { "\($0.1)" }.joined(separator: "×")
    }
    return given.map { "\($0.0.rawValue)=\($0.1)" }.joined(separator: " ")
  }
}

/// Options that replace dimensions.
struct ShapeOptions: ParsableArguments {
  @Option(help: "Rows of the batch.") var rows: Int?
  @Option(help: "Columns: elements or classes of a row, or the dimension of embeddings.") var columns: Int?
  @Option(help: "The depth of matrix products: the columns of embeddings.") var depth: Int?
  @Option(help: "Classes: the columns of logits, or those that the rows of a batch of embeddings belong to.")
  var classes: Int?
  @Option(help: "Frames of an utterance.") var time: Int?
  @Option(help: "Utterances.") var batch: Int?
  @Option(help: "Labels of an utterance.") var labels: Int?

  var given: [Dimensions.Name: Int] {
    var result: [Dimensions.Name: Int] = [:]
    result[.rows] = rows
    result[.columns] = columns
    result[.depth] = depth
    result[.classes] = classes
    result[.time] = time
    result[.batch] = batch
    result[.labels] = labels
    return result
  }

  /// Whether the workload has every dimension that was given, under one name each.
  func suit(_ workload: Workload) -> Bool {
    Set(given.keys.compactMap(workload.dimension)).count == given.count
  }

  /// The shapes of a workload with what was given in place of its own; one shape if anything was.
  func shapes(of workload: Workload) throws -> [Dimensions] {
    try given.isEmpty ? workload.shapes : [workload.shape(with: given)]
  }
}

extension Workload {
  /// The dimension of that name, which columns may have another of.
  func dimension(_ name: Dimensions.Name) -> Dimensions.Name? {
    shapes[0].values[name] != nil ? name : name == columnsName ? .columns : nil
  }

  /// The default shape with some sizes in place of its own.
  func shape(with sizes: [Dimensions.Name: Int]) throws -> Dimensions {
    var values = shapes[0].values
    for (name, value) in sizes {
      guard value > 0 else { throw UsageError("--\(name.rawValue): expected a number > 0, got \(value)") }
      guard let own = dimension(name) else {
        throw UsageError("--\(name.rawValue) is no dimension of \(self.name), whose shape is \(shapes[0])")
      }
      guard own == name || sizes[own] == nil else {
        throw UsageError("--\(name.rawValue) and --\(own.rawValue) are the same dimension of \(self.name)")
      }
      values[own] = value
    }
    let shape = Dimensions(values)
    // No count of bytes or operations overflows below.
    guard values.values.allSatisfy({ $0 < 1 << 28 }), values.values.reduce(1.0, { $0 * Double($1) }) < 0x1p48,
      Double(traffic(shape).read + traffic(shape).written) * 4 < Double(ProcessInfo.processInfo.physicalMemory)
    else { throw UsageError("the shape \(shape) is too large for the memory of this machine") }
    return shape
  }
}
