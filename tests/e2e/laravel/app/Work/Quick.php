<?php

namespace App\Work;

/** Takes no time. */
class Quick extends Piece
{
    protected function work(): void
    {
    }
}
