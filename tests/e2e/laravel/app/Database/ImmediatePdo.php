<?php

namespace App\Database;

use PDO;

/**
 * Begins transactions as writers.
 *
 * By itself SQLite begins them as readers. Two that read the same row and then want to change it are a deadlock, which
 * it answers at once with "database is locked", whatever the time-out: finished work stays in the table, to be done again.
 */
class ImmediatePdo extends PDO
{
    public function beginTransaction(): bool
    {
        return $this->exec('BEGIN IMMEDIATE') !== false;
    }

    public function commit(): bool
    {
        return $this->exec('COMMIT') !== false;
    }

    public function rollBack(): bool
    {
        return $this->exec('ROLLBACK') !== false;
    }
}
