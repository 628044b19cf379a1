// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "./Errors.sol";

/// @title Which ledger counts, version by version.
/// @notice Nobody administers it: a version follows only if the council of the one before named it there.
contract AddressBook {
    /// @notice One version.
    struct Version {
        address ledger;
        bytes32 codeHash;
        uint64 since;
    }

    Version[] private _versions;

    /// @notice A version was added.
    event VersionAdded(uint256 indexed number, address indexed ledger, bytes32 codeHash, uint64 since);

    /// @notice Start with the first version.
    /// @param first its address.
    constructor(address first) {
        _add(first, uint64(block.timestamp));
    }

    /// @notice Append the version that the current ledger has named. Anybody may.
    function advance() external {
        (address successor, uint64 from) = IVersion(_versions[_versions.length - 1].ledger).retirement();
        if (successor == address(0)) revert NotRetired();
        _add(successor, from);
    }

    /// @notice The newest version. Before its time the one before still takes new business.
    /// @return number counted from 1.
    /// @return version its record.
    function latest() external view returns (uint256 number, Version memory version) {
        number = _versions.length;
        version = _versions[number - 1];
    }

    /// @notice One version.
    /// @param number counted from 1.
    /// @return its record.
    function versionAt(uint256 number) external view returns (Version memory) {
        return _versions[number - 1];
    }

    function _add(address ledger, uint64 since) private {
        _versions.push(Version(ledger, ledger.codehash, since));
        emit VersionAdded(_versions.length, ledger, ledger.codehash, since);
    }
}

/// @dev What the book asks of a ledger.
interface IVersion {
    /// @notice The next version and from when it takes over.
    function retirement() external view returns (address successor, uint64 from);
}
