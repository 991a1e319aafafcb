<?php

namespace App\Work;

use RuntimeException;

/** Begins and throws. */
class Failing extends Piece
{
    protected function work(): void
    {
        throw new RuntimeException("piece {$this->number} fails");
    }
}
