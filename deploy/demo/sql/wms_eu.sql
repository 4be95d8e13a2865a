-- The warehouse system of the EU site (Hamburg): MariaDB, text keys, wall-clock times of
-- Europe/Berlin. This warehouse confirms a shipment when it is packed.
-- Load it as root; it makes database `wms`.

CREATE DATABASE wms CHARACTER SET utf8mb4;
USE wms;

CREATE TABLE customers (
    party_code   VARCHAR(20) PRIMARY KEY,
    name         VARCHAR(80) NOT NULL,
    credit_limit DECIMAL(12,2) NOT NULL DEFAULT 0 CHECK (credit_limit >= 0),
    city         VARCHAR(60) NOT NULL,
    country      CHAR(2) NOT NULL
) ENGINE=InnoDB;

CREATE TABLE articles (
    sku          VARCHAR(20) PRIMARY KEY,
    description  VARCHAR(80) NOT NULL,
    unit         VARCHAR(3) NOT NULL DEFAULT 'EA'
) ENGINE=InnoDB;

CREATE TABLE stock (
    sku          VARCHAR(20) PRIMARY KEY,
    on_hand      DECIMAL(14,3) NOT NULL DEFAULT 0,
    allocated    DECIMAL(14,3) NOT NULL DEFAULT 0 CHECK (allocated >= 0),
    CONSTRAINT stock_article FOREIGN KEY (sku) REFERENCES articles (sku)
) ENGINE=InnoDB;

CREATE TABLE orders (
    order_ref    VARCHAR(20) PRIMARY KEY,
    party_code   VARCHAR(20) NOT NULL,
    status       VARCHAR(12) NOT NULL DEFAULT 'NEW'
                 CHECK (status IN ('NEW', 'WAVED', 'DONE', 'CANCELLED')),
    CONSTRAINT order_customer FOREIGN KEY (party_code) REFERENCES customers (party_code)
) ENGINE=InnoDB;

CREATE TABLE order_lines (
    line_ref     VARCHAR(28) PRIMARY KEY,
    order_ref    VARCHAR(20) NOT NULL,
    line_no      INT NOT NULL,
    sku          VARCHAR(20) NOT NULL,
    qty          DECIMAL(12,3) NOT NULL CHECK (qty > 0),
    qty_shipped  DECIMAL(12,3) NULL,
    UNIQUE (order_ref, line_no),
    CONSTRAINT line_order FOREIGN KEY (order_ref) REFERENCES orders (order_ref),
    CONSTRAINT line_article FOREIGN KEY (sku) REFERENCES articles (sku)
) ENGINE=InnoDB;

CREATE TABLE shipments (
    shipment_no  VARCHAR(20) PRIMARY KEY,
    order_ref    VARCHAR(20) NOT NULL,
    status       VARCHAR(12) NOT NULL DEFAULT 'OPEN'
                 CHECK (status IN ('OPEN', 'PICKING', 'CONFIRMED', 'LOADED', 'CANCELLED')),
    incoterm     CHAR(3) NOT NULL DEFAULT 'DAP',
    gross_weight DECIMAL(10,3) NULL,
    confirmed_at DATETIME(3) NULL,
    loaded_at    DATETIME(3) NULL,
    changed_at   TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
    CONSTRAINT shipment_order FOREIGN KEY (order_ref) REFERENCES orders (order_ref)
) ENGINE=InnoDB;

CREATE TABLE picks (
    pick_id      VARCHAR(28) PRIMARY KEY,
    task_no      VARCHAR(24) NOT NULL,
    line_ref     VARCHAR(28) NOT NULL,
    shipment_no  VARCHAR(20) NOT NULL,
    qty_task     DECIMAL(12,3) NOT NULL,
    qty          DECIMAL(12,3) NOT NULL CHECK (qty >= 0),
    picked_at    DATETIME(3) NOT NULL,
    picker       VARCHAR(20) NOT NULL DEFAULT 'MDE-01',
    KEY (task_no),
    CONSTRAINT pick_line FOREIGN KEY (line_ref) REFERENCES order_lines (line_ref),
    CONSTRAINT pick_shipment FOREIGN KEY (shipment_no) REFERENCES shipments (shipment_no)
) ENGINE=InnoDB;

-- A confirmed pick takes the goods out of stock. A scanner that sends the same task again adds
-- a row, and no second movement.
DELIMITER //
CREATE TRIGGER post_pick AFTER INSERT ON picks FOR EACH ROW
BEGIN
    IF NOT EXISTS (SELECT 1 FROM picks p
                   WHERE p.task_no = NEW.task_no AND p.pick_id <> NEW.pick_id) THEN
        UPDATE stock s JOIN order_lines l ON l.sku = s.sku
            SET s.on_hand = s.on_hand - NEW.qty, s.allocated = s.allocated - NEW.qty_task
            WHERE l.line_ref = NEW.line_ref;
    END IF;
END//
DELIMITER ;

CREATE USER 'wms_app'@'%' IDENTIFIED BY 'wms-app';
GRANT SELECT, INSERT, UPDATE, DELETE ON wms.* TO 'wms_app'@'%';
